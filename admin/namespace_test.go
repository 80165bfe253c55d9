package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"balefire/replication/mutationlog"
)

// freezes remembers what it was told, and fails as it is told.
type freezes struct {
	told []string
	err  error
}

func (f *freezes) Freeze(_ context.Context, to, reason string) error {
	f.told = append(f.told, "freeze "+to+": "+reason)
	return f.err
}

func (f *freezes) Thaw(context.Context) error {
	f.told = append(f.told, "thaw")
	return f.err
}

func TestFreezeAndThaw(t *testing.T) {
	namespace := &freezes{}
	r := newRig(t, func(o *Options) { o.Freezer = namespace })
	const path = "/v1/namespace/freeze"
	r.must(http.StatusNoContent, "POST", path, `{"to":"namespace new","reason":"more partitions"}`)
	r.must(http.StatusNoContent, "DELETE", path, "")
	if got := strings.Join(namespace.told, "; "); got != "freeze namespace new: more partitions; thaw" {
		t.Errorf("told %s", got)
	}
	for body, field := range map[string]string{
		`{}`:        "/to",
		`{"to":""}`: "/to",
		`{"to":7}`:  "/to",
		`{"to":"` + strings.Repeat("x", 501) + `"}`:              "/to",
		`{"to":"x","reason":"` + strings.Repeat("x", 501) + `"}`: "/reason",
		`{"to":"x","more":1}`:                                    "/more",
	} {
		if a := r.must(http.StatusUnprocessableEntity, "POST", path, body); !strings.Contains(string(a.body), field) {
			t.Errorf("%s: %s", body, a.body)
		}
	}
	if len(namespace.told) != 2 {
		t.Errorf("a refused call was passed on: %v", namespace.told)
	}

	namespace.err = fmt.Errorf("put: %w: %w: it goes elsewhere", mutationlog.ErrRefused, mutationlog.ErrFrozen)
	r.must(http.StatusConflict, "POST", path, `{"to":"x"}`)
	namespace.err = errors.New("no broker")
	for _, method := range []string{"POST", "DELETE"} {
		body := ""
		if method == "POST" {
			body = `{"to":"x"}`
		}
		if a := r.must(http.StatusServiceUnavailable, method, path, body); a.header.Get("Retry-After") == "" {
			t.Errorf("%s: no Retry-After", method)
		}
		r.must(http.StatusUnauthorized, method, path, body, "Authorization: none")
	}

	alone := newRig(t, nil)
	alone.must(http.StatusNotImplemented, "POST", path, `{"to":"x"}`)
	alone.must(http.StatusNotImplemented, "DELETE", path, "")
}
