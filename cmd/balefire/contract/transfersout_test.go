package contract

import (
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
)

// metric reads one of a node's metrics, named with its labels; 0 when it isn't there.
func (n node) metric(name string) float64 {
	n.t.Helper()
	value, err := n.tryMetric(name)
	if err != nil {
		n.t.Fatalf("%v\n%s", err, n.Log())
	}
	return value
}

func (n node) tryMetric(name string) (float64, error) {
	res, err := n.HTTP().Get("http://" + n.Admin + "/metrics")
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, name+" "); ok {
			return strconv.ParseFloat(strings.TrimSpace(rest), 64)
		}
	}
	return 0, nil
}

var _ = http.StatusOK
var _ testing.TB
