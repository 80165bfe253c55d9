// Package objectstore keeps objects under keys: in any S3, in a local directory, or in memory, by one contract. It
// knows neither partitions nor snapshots.
//
// What holds:
//   - A reader sees an object whole, as one Put wrote it, or not at all.
//   - A conditional Put that returns ErrPrecondition has changed nothing; of two that race, one wins.
//   - A Put whose reader fails, or whose context ends, leaves what was there before.
package objectstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/url"
	"strings"
	"time"
)

// Errors that callers tell apart, with errors.Is. All others may pass: the store can't be reached, or is not well.
var (
	// ErrNotFound: there is no object under the key.
	ErrNotFound = errors.New("no such object")
	// ErrPrecondition: the condition of a Put does not hold.
	ErrPrecondition = errors.New("the object is not as it was expected to be")
	// ErrDenied: the store refuses the credentials, or what they may do.
	ErrDenied = errors.New("the object store denies access")
	// ErrNoBucket: the bucket, or directory, does not exist. It is never made: a misspelt name would be a new, empty store.
	ErrNoBucket = errors.New("the bucket does not exist")
)

// Condition is what must hold for a Put. The zero value is always true.
type Condition struct {
	absent bool
	etag   string
}

// IfAbsent holds when there is no object under the key.
func IfAbsent() Condition { return Condition{absent: true} }

// IfMatch holds when the object under the key has this etag.
func IfMatch(etag string) Condition { return Condition{etag: etag} }

// Info is what is known of an object without reading it.
type Info struct {
	Key      string
	Size     int64 // octets
	ETag     string
	Modified time.Time
}

// Store keeps objects. Its methods may be used by many goroutines at once.
type Store interface {
	// Put writes an object: size octets of r, or all of it when size is -1. It returns the new etag.
	Put(ctx context.Context, key string, r io.Reader, size int64, c Condition) (etag string, err error)
	// Get opens an object. The caller closes it; ctx bounds the reading, too.
	Get(ctx context.Context, key string) (io.ReadCloser, Info, error)
	// Head returns what is known of an object.
	Head(ctx context.Context, key string) (Info, error)
	// List gives the objects whose keys begin with prefix, in the order of their keys' octets. An error ends it.
	List(ctx context.Context, prefix string) iter.Seq2[Info, error]
	// Delete removes an object. One that is not there is no error.
	Delete(ctx context.Context, key string) error
	// String says where the store is, without secrets.
	String() string
}

// Open opens the store that a URL names:
//
//	file:///var/lib/backups
//	s3://bucket/prefix?endpoint=https://host:port&region=eu-central-1&path-style=true
//	memory:
//
// Credentials of S3 come from where the AWS tools look for them: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, the shared
// files, or the machine's role. Nothing is asked of the store yet.
func Open(ctx context.Context, where string) (Store, error) {
	u, err := url.Parse(where)
	if err != nil {
		return nil, fmt.Errorf("object store %q: %w", where, err)
	}
	switch u.Scheme {
	case "file":
		if u.Host != "" || !strings.HasPrefix(u.Path, "/") {
			return nil, fmt.Errorf("object store %q: want file:/// and an absolute path", where)
		}
		return NewDirectory(u.Path), nil
	case "s3":
		return openS3(ctx, u)
	case "memory":
		return NewMemory(), nil
	}
	return nil, fmt.Errorf("object store %q: want s3://BUCKET/PREFIX or file:///DIRECTORY", where)
}

// checkKey keeps keys to what all stores take alike, and inside a directory.
func checkKey(key string) error {
	if key == "" || len(key) > 900 {
		return fmt.Errorf("key of %d octets: want 1 to 900", len(key))
	}
	for part := range strings.SplitSeq(key, "/") {
		if part == "" || strings.HasPrefix(part, ".") {
			return fmt.Errorf("key %q: want parts that are not empty and don't begin with a dot", key)
		}
		for i := range len(part) {
			c := part[i]
			if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_' || c == '.' || c == '=') {
				return fmt.Errorf("key %q: want letters, digits, and any of - _ . = /", key)
			}
		}
	}
	return nil
}

// exactly fails a reader that ends before, or goes on after, a number of octets.
type exactly struct {
	r    io.Reader
	left int64
}

func (e *exactly) Read(p []byte) (int, error) {
	n, err := e.r.Read(p)
	if e.left -= int64(n); e.left < 0 || errors.Is(err, io.EOF) && e.left > 0 {
		return n, fmt.Errorf("the object is not of the size that was said: %w", io.ErrUnexpectedEOF)
	}
	return n, err
}

func sized(r io.Reader, size int64) io.Reader {
	if size < 0 {
		return r
	}
	return &exactly{r: r, left: size}
}
