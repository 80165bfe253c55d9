package objectstore

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// Memory keeps objects in memory, for tests and trials.
type Memory struct {
	mu      sync.Mutex
	objects map[string]memoryObject
}

type memoryObject struct {
	content []byte
	info    Info
}

// NewMemory makes an empty store.
func NewMemory() *Memory { return &Memory{objects: make(map[string]memoryObject)} }

var _ Store = (*Memory)(nil)

// Put implements Store.
func (m *Memory) Put(ctx context.Context, key string, r io.Reader, size int64, c Condition) (string, error) {
	if err := checkKey(key); err != nil {
		return "", err
	}
	content, err := io.ReadAll(sized(r, size))
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return "", fmt.Errorf("put %s: %w", key, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	before, exists := m.objects[key]
	if !c.holds(exists, before.info.ETag) {
		return "", fmt.Errorf("put %s: %w", key, ErrPrecondition)
	}
	sum := sha256.Sum256(content)
	info := Info{Key: key, Size: int64(len(content)), ETag: hex.EncodeToString(sum[:16]), Modified: time.Now()}
	m.objects[key] = memoryObject{content, info}
	return info.ETag, nil
}

func (c Condition) holds(exists bool, etag string) bool {
	switch {
	case c.absent:
		return !exists
	case c.etag != "":
		return exists && etag == c.etag
	}
	return true
}

// Get implements Store.
func (m *Memory) Get(ctx context.Context, key string) (io.ReadCloser, Info, error) {
	m.mu.Lock()
	o, ok := m.objects[key]
	m.mu.Unlock()
	if !ok {
		return nil, Info{}, fmt.Errorf("get %s: %w", key, ErrNotFound)
	}
	return io.NopCloser(bytes.NewReader(o.content)), o.info, ctx.Err()
}

// Head implements Store.
func (m *Memory) Head(ctx context.Context, key string) (Info, error) {
	r, info, err := m.Get(ctx, key)
	if r != nil {
		r.Close()
	}
	return info, err
}

// List implements Store.
func (m *Memory) List(ctx context.Context, prefix string) iter.Seq2[Info, error] {
	m.mu.Lock()
	objects := maps.Clone(m.objects)
	m.mu.Unlock()
	return func(yield func(Info, error) bool) {
		for _, key := range slices.Sorted(maps.Keys(objects)) {
			if err := ctx.Err(); err != nil {
				yield(Info{}, err)
				return
			}
			if strings.HasPrefix(key, prefix) && !yield(objects[key].info, nil) {
				return
			}
		}
	}
}

// Delete implements Store.
func (m *Memory) Delete(ctx context.Context, key string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.objects, key)
	return ctx.Err()
}

func (m *Memory) String() string { return "memory:" }
