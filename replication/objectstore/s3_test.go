//go:build s3

package objectstore

import (
	"bytes"
	"errors"
	"io"
	"net"
	"strings"
	"sync/atomic"
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

// A connection that is cut in the middle of an object is an error of whoever reads it, never its end.
func TestS3CutConnection(t *testing.T) {
	server := s3test.Start(t)
	content := bytes.Repeat([]byte("0123456789abcdef"), 1<<18) // 4 MiB
	if _, err := openTest(t, server.URL("")).Put(t.Context(), "large", bytes.NewReader(content), int64(len(content)), Condition{}); err != nil {
		t.Fatal(err)
	}
	through, cutAfter := cutter(t, server.Address())
	s := openTest(t, server.URL(through))
	for _, after := range []int64{2000, 100_000, 4_000_000} {
		cutAfter.Store(after)
		r, _, err := s.Get(t.Context(), "large")
		if err != nil {
			continue // cut before the answer began
		}
		got, err := io.ReadAll(r)
		r.Close()
		if err == nil {
			t.Errorf("cut after %d octets: %d of %d, and no error", after, len(got), len(content))
		}
	}
	cutAfter.Store(1 << 40)
	r, _, err := s.Get(t.Context(), "large")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, content) {
		t.Errorf("not cut: %d octets, %v", len(got), err)
	}
}

// cutter passes connections on, and cuts each after so many octets of answer.
func cutter(t *testing.T, to string) (address string, cutAfter *atomic.Int64) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	cutAfter = new(atomic.Int64)
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", to)
			if err != nil {
				client.Close()
				continue
			}
			go io.Copy(server, client)
			go func() {
				io.CopyN(client, server, cutAfter.Load())
				client.Close()
				server.Close()
			}()
		}
	}()
	return l.Addr().String(), cutAfter
}
