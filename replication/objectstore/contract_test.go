package objectstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"
)

func TestDirectory(t *testing.T) { contract(t, NewDirectory(t.TempDir())) }
func TestMemory(t *testing.T)    { contract(t, NewMemory()) }

// contract is what every store must do.
func contract(t *testing.T, s Store) {
	ctx := t.Context()
	put := func(t *testing.T, key, content string, c Condition) string {
		t.Helper()
		etag, err := s.Put(ctx, key, strings.NewReader(content), int64(len(content)), c)
		if err != nil {
			t.Fatal(err)
		}
		return etag
	}
	get := func(t *testing.T, key string) string {
		t.Helper()
		r, info, err := s.Get(ctx, key)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if info.Size != int64(len(content)) || info.Key != key {
			t.Errorf("info of %s: %+v, with %d octets", key, info, len(content))
		}
		return string(content)
	}

	t.Run("what is put is got", func(t *testing.T) {
		for _, size := range []int{0, 1, partSize - 1, partSize, partSize + 1, 2*partSize + 77} {
			content := make([]byte, size)
			for i := range content {
				content[i] = byte(rand.Uint32())
			}
			for _, said := range []int64{int64(size), -1} {
				key := fmt.Sprintf("sizes/%d", size)
				if _, err := s.Put(ctx, key, bytes.NewReader(content), said, Condition{}); err != nil {
					t.Fatal(err)
				}
				if got := get(t, key); got != string(content) {
					t.Errorf("%d octets (said %d): got %d others", size, said, len(got))
				}
			}
		}
	})
	t.Run("absent", func(t *testing.T) {
		if _, _, err := s.Get(ctx, "not/there"); !errors.Is(err, ErrNotFound) {
			t.Errorf("get: %v", err)
		}
		if _, err := s.Head(ctx, "not/there"); !errors.Is(err, ErrNotFound) {
			t.Errorf("head: %v", err)
		}
		if err := s.Delete(ctx, "not/there"); err != nil {
			t.Errorf("delete: %v", err)
		}
	})
	t.Run("conditions", func(t *testing.T) {
		first := put(t, "cond/a", "one", IfAbsent())
		if _, err := s.Put(ctx, "cond/a", strings.NewReader("two"), 3, IfAbsent()); !errors.Is(err, ErrPrecondition) {
			t.Errorf("put where something is: %v", err)
		}
		second := put(t, "cond/a", "two", IfMatch(first))
		if second == first {
			t.Error("another content has the same etag")
		}
		if _, err := s.Put(ctx, "cond/a", strings.NewReader("three"), 5, IfMatch(first)); !errors.Is(err, ErrPrecondition) {
			t.Errorf("put over another: %v", err)
		}
		if got := get(t, "cond/a"); got != "two" {
			t.Errorf("got %q", got)
		}
		large := bytes.Repeat([]byte("x"), partSize+1)
		if _, err := s.Put(ctx, "cond/a", bytes.NewReader(large), -1, IfAbsent()); !errors.Is(err, ErrPrecondition) {
			t.Errorf("put of parts where something is: %v", err)
		}
		if got := get(t, "cond/a"); got != "two" {
			t.Errorf("after parts that were refused: %d octets", len(got))
		}
	})
	t.Run("one of many wins", func(t *testing.T) {
		var won atomic.Int32
		var all sync.WaitGroup
		for i := range 8 {
			all.Go(func() {
				_, err := s.Put(ctx, "race/a", strings.NewReader(fmt.Sprint(i)), 1, IfAbsent())
				switch {
				case err == nil:
					won.Add(1)
				case !errors.Is(err, ErrPrecondition):
					t.Error(err)
				}
			})
		}
		all.Wait()
		if won.Load() != 1 {
			t.Errorf("%d won", won.Load())
		}
	})
	t.Run("list", func(t *testing.T) {
		want := []string{"list/a/1", "list/a/2", "list/ab", "list/b/1"}
		for _, key := range slices.Backward(want) {
			put(t, key, key, Condition{})
		}
		keys := func(prefix string) (got []string) {
			for info, err := range s.List(ctx, prefix) {
				if err != nil {
					t.Fatal(err)
				}
				if info.Size != int64(len(info.Key)) {
					t.Errorf("%+v", info)
				}
				got = append(got, info.Key)
			}
			return got
		}
		if got := keys("list/"); !slices.Equal(got, want) {
			t.Errorf("list/: %q", got)
		}
		if got := keys("list/a"); !slices.Equal(got, want[:3]) {
			t.Errorf("list/a: %q", got)
		}
		if err := s.Delete(ctx, "list/a/1"); err != nil {
			t.Fatal(err)
		}
		if got := keys("list/a/"); !slices.Equal(got, want[1:2]) {
			t.Errorf("list/a/ after a deletion: %q", got)
		}
	})
	t.Run("what fails leaves what was there", func(t *testing.T) {
		put(t, "fail/a", "before", Condition{})
		broken := errors.New("broken")
		for _, before := range []int{0, 10, partSize + 10} {
			r := io.MultiReader(bytes.NewReader(make([]byte, before)), iotest.ErrReader(broken))
			if _, err := s.Put(ctx, "fail/a", r, -1, Condition{}); !errors.Is(err, broken) {
				t.Errorf("after %d octets: %v", before, err)
			}
		}
		for _, size := range []int64{3, 5} {
			if _, err := s.Put(ctx, "fail/a", strings.NewReader("four"), size, Condition{}); err == nil {
				t.Errorf("four octets were taken for %d", size)
			}
		}
		ended, cancel := context.WithCancel(ctx)
		cancel()
		if _, err := s.Put(ended, "fail/a", strings.NewReader("after"), 5, Condition{}); !errors.Is(err, context.Canceled) {
			t.Errorf("with a context that has ended: %v", err)
		}
		if got := get(t, "fail/a"); got != "before" {
			t.Errorf("got %q", got)
		}
	})
	t.Run("keys", func(t *testing.T) {
		for _, key := range []string{"", "/a", "a//b", "a/", "../a", "a/../b", ".a", "a b", "ä", strings.Repeat("a", 901)} {
			if _, err := s.Put(ctx, key, strings.NewReader(""), 0, Condition{}); err == nil {
				t.Errorf("key %q was taken", key)
			}
		}
	})
}

func TestDirectoryThatIsNotThere(t *testing.T) {
	root := filepath.Join(t.TempDir(), "not-mounted")
	d := NewDirectory(root)
	if _, err := d.Put(t.Context(), "a", strings.NewReader(""), 0, Condition{}); !errors.Is(err, ErrNoBucket) {
		t.Errorf("put: %v", err)
	}
	if _, err := d.Head(t.Context(), "a"); !errors.Is(err, ErrNoBucket) {
		t.Errorf("head: %v", err)
	}
	for _, err := range d.List(t.Context(), "") {
		if !errors.Is(err, ErrNoBucket) {
			t.Errorf("list: %v", err)
		}
	}
	if _, err := os.Stat(root); err == nil {
		t.Error("it was made")
	}
}

func TestOpen(t *testing.T) {
	t.Setenv("AWS_REGION", "")
	t.Setenv("AWS_DEFAULT_REGION", "")
	t.Setenv("AWS_CONFIG_FILE", os.DevNull)
	for where, want := range map[string]string{
		"file:///var/lib/x":         "",
		"file://var/lib/x":          "absolute path",
		"s3://bucket?region=eu-1":   "",
		"s3://bucket":               "which region",
		"s3://":                     "BUCKET",
		"s3://k:s@bucket?region=x":  "AWS_ACCESS_KEY_ID",
		"s3://bucket?endpoint=host": "http:// or https://",
		"s3://bucket?end=x":         "unknown parameter",
		"s3://b?endpoint=http://127.0.0.1:1&path-style=yes": "true or false",
		"s3://b/p?endpoint=http://127.0.0.1:1":              "",
		"ftp://x":                                           "want s3://",
	} {
		_, err := Open(t.Context(), where)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", where, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "k:s") {
			t.Errorf("a secret is in %v", err)
		}
	}
}
