package backup

import (
	"bytes"
	"errors"
	"os"
	"testing"
	"time"
)

// The golden file was written once, by the first version of the format, and is never written again.
const golden = "../../testdata/formats/v1/backup.manifest"

func sample() Manifest {
	return Manifest{
		V: 1, Number: 42, Follows: 41, Length: 3, Namespace: "balefire", Topic: [16]byte{1, 2, 15: 255}, Partition: 17,
		Since: 4000, Offset: 4711, LeaderEpoch: 5, Time: time.Date(2026, 1, 2, 3, 4, 5, 6e6, time.UTC),
		Made: time.Date(2026, 1, 2, 3, 5, 0, 0, time.UTC), Node: "n1", Entries: 100, Deleted: 7, Raw: 123456, Size: 2345,
		Digest: "00112233", SHA256: [32]byte{9, 31: 8}, Object: "snapshot-1767323100000000000-abc.bfsnap",
	}
}

func TestGoldenManifest(t *testing.T) {
	text, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	m, err := parseManifest(text)
	if err != nil {
		t.Fatal(err)
	}
	m.TopicHex, m.SHA256Hex, m.Check = "", "", ""
	if m != sample() {
		t.Errorf("read %+v", m)
	}
	if now, err := sample().text(); err != nil || now != string(text) {
		t.Errorf("written %s, %v", now, err)
	}
}

// TestManifestDamage changes every octet of a manifest, and cuts it anywhere.
func TestManifestDamage(t *testing.T) {
	whole, err := sample().text()
	if err != nil {
		t.Fatal(err)
	}
	for i := range whole {
		for _, bit := range []byte{1, 4, 32, 128} {
			b := []byte(whole)
			b[i] ^= bit
			if m, err := parseManifest(b); !errors.Is(err, ErrDamaged) {
				t.Fatalf("octet %d, bit %d: %+v, %v", i, bit, m, err)
			}
		}
		if m, err := parseManifest([]byte(whole[:i])); !errors.Is(err, ErrDamaged) {
			t.Fatalf("cut to %d: %+v, %v", i, m, err)
		}
	}
	for name, b := range map[string][]byte{
		"twice":         []byte(whole + whole),
		"a space more":  []byte(" " + whole),
		"another order": bytes.Replace([]byte(whole), []byte(`"v":1,"number":42,`), []byte(`"number":42,"v":1,`), 1),
		"one more":      bytes.Replace([]byte(whole), []byte(`"v":1,`), []byte(`"v":1,"w":1,`), 1),
		"version 2":     bytes.Replace([]byte(whole), []byte(`"v":1,`), []byte(`"v":2,`), 1),
	} {
		if m, err := parseManifest(b); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %+v, %v", name, m, err)
		}
	}
}
