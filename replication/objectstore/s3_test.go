//go:build s3

package objectstore

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"balefire/replication/s3test"
)

func openTest(t *testing.T, url string) Store {
	t.Helper()
	s, err := Open(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestS3(t *testing.T) {
	server := s3test.Start(t)
	contract(t, openTest(t, server.URL("")))
}

func TestS3Denies(t *testing.T) {
	server := s3test.Start(t)
	t.Setenv("AWS_SECRET_ACCESS_KEY", "not-the-secret-of-it")
	s := openTest(t, server.URL(""))
	_, err := s.Put(t.Context(), "a", strings.NewReader("x"), 1, Condition{})
	if !errors.Is(err, ErrDenied) || !strings.Contains(err.Error(), "AWS_SECRET_ACCESS_KEY") {
		t.Errorf("put with a wrong secret: %v", err)
	}
	for _, err := range s.List(t.Context(), "") {
		if !errors.Is(err, ErrDenied) {
			t.Errorf("list with a wrong secret: %v", err)
		}
	}
}

func TestS3WithoutBucket(t *testing.T) {
	server := s3test.Start(t)
	s := openTest(t, strings.Replace(server.URL(""), "//bucket", "//another", 1))
	if _, err := s.Put(t.Context(), "a", strings.NewReader("x"), 1, Condition{}); !errors.Is(err, ErrNoBucket) {
		t.Errorf("put: %v", err)
	}
}

func TestS3Unreachable(t *testing.T) {
	server := s3test.Start(t)
	s := openTest(t, server.URL(""))
	server.Kill()
	_, err := s.Put(t.Context(), "a", strings.NewReader("x"), 1, Condition{})
	if err == nil || errors.Is(err, ErrNotFound) || errors.Is(err, ErrDenied) {
		t.Errorf("put: %v", err)
	}
}

// TestS3CutConnection: an object whose connections are cut comes whole, as long as each brings something; otherwise whoever
// reads it gets an error, never an early end.
func TestS3CutConnection(t *testing.T) {
	server := s3test.Start(t)
	content := bytes.Repeat([]byte("0123456789abcdef"), 1<<18) // 4 MiB
	if _, err := openTest(t, server.URL("")).Put(t.Context(), "large", bytes.NewReader(content), int64(len(content)), Condition{}); err != nil {
		t.Fatal(err)
	}
	through := s3test.NewCutter(t, server.Address())
	s := openTest(t, server.URL(through.Address()))
	for _, after := range []int64{100_000, 4_000_000, 1 << 40} {
		through.CutAfter(after)
		r, _, err := s.Get(t.Context(), "large")
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(r)
		r.Close()
		if err != nil || !bytes.Equal(got, content) {
			t.Errorf("cut after %d octets: %d of %d, %v", after, len(got), len(content), err)
		}
	}
	through.CutAfter(100_000)
	r, _, err := s.Get(t.Context(), "large")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := io.CopyN(io.Discard, r, 50_000); err != nil {
		t.Fatal(err)
	}
	through.CutAfter(0)
	if got, err := io.ReadAll(r); err == nil || len(got) > len(content)-50_000 {
		t.Errorf("cut for good: %d octets, and no error", len(got))
	}
}

// TestS3ObjectChanges: the rest of an object is that of the same object, or an error.
func TestS3ObjectChanges(t *testing.T) {
	server := s3test.Start(t)
	direct := openTest(t, server.URL(""))
	put := func(octet byte) {
		t.Helper()
		if _, err := direct.Put(t.Context(), "large", bytes.NewReader(bytes.Repeat([]byte{octet}, 4<<20)), 4<<20, Condition{}); err != nil {
			t.Fatal(err)
		}
	}
	put('a')
	through := s3test.NewCutter(t, server.Address())
	through.CutAfter(1_000_000)
	r, _, err := openTest(t, server.URL(through.Address())).Get(t.Context(), "large")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := io.CopyN(io.Discard, r, 1000); err != nil {
		t.Fatal(err)
	}
	put('b')
	got, err := io.ReadAll(r)
	if err == nil || bytes.IndexByte(got, 'b') >= 0 {
		t.Errorf("%d octets, some of another object: %v", len(got), err)
	}
}
