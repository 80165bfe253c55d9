package zones

import (
	"strings"
	"testing"
)

func TestTSIGAlgorithms(t *testing.T) {
	for text, want := range map[string]Name{
		"hmac-sha256": HMACSHA256, "HMAC-SHA512.": HMACSHA512, "hmac-md5": HMACMD5, "hmac-md5.sig-alg.reg.int": HMACMD5,
		"HMAC-MD5.SIG-ALG.REG.INT.": HMACMD5, "hmac-sha1": HMACSHA1,
	} {
		if got, err := ParseTSIGAlgorithm(text); err != nil || got != want {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", ".", "sha256", "hmac-sha256-128", "hmac-sha256..", "gss-tsig"} {
		if got, err := ParseTSIGAlgorithm(text); err == nil || !strings.Contains(err.Error(), "hmac-sha256, ") {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
	for _, a := range TSIGAlgorithms() {
		if again, err := ParseTSIGAlgorithm(TSIGAlgorithmText(a)); err != nil || again != a {
			t.Errorf("%v: %v, %v", a, again, err)
		}
		if TSIGHashLen(a) < 16 {
			t.Errorf("%v has %d octets", a, TSIGHashLen(a))
		}
	}
}
