package objectstore

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Directory keeps objects as files, which other processes of the machine, or of others by a shared file system with
// working flock(2), may use at the same time.
type Directory struct{ root string }

// NewDirectory makes a store of a directory, which exists, or will when the store is used.
func NewDirectory(root string) *Directory { return &Directory{root: filepath.Clean(root)} }

var _ Store = (*Directory)(nil)

const (
	// unfinishedPrefix begins the names of files that are being written; no key has such a part.
	unfinishedPrefix = ".unfinished-"
	lockName         = ".lock"
)

// Put implements Store.
func (d *Directory) Put(ctx context.Context, key string, r io.Reader, size int64, c Condition) (etag string, err error) {
	if err := checkKey(key); err != nil {
		return "", err
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("put %s in %s: %w", key, d, err)
		}
	}()
	if err := d.there(); err != nil {
		return "", err
	}
	file := d.file(key)
	folder := filepath.Dir(file)
	if err := os.MkdirAll(folder, 0o750); err != nil {
		return "", classify(err)
	}
	f, err := os.CreateTemp(folder, unfinishedPrefix)
	if err != nil {
		return "", classify(err)
	}
	defer os.Remove(f.Name()) // what could not be finished
	sum := sha256.New()
	_, err = io.Copy(io.MultiWriter(f, sum), untilDone{ctx, sized(r, size)})
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return "", err
	}
	unlock, err := d.lock()
	if err != nil {
		return "", err
	}
	defer unlock()
	before, err := etagOf(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	if !c.holds(err == nil, before) {
		return "", ErrPrecondition
	}
	if err := os.Rename(f.Name(), file); err != nil {
		return "", err
	}
	return hex.EncodeToString(sum.Sum(nil)[:16]), d.syncFolders(folder)
}

// there is an error when the root is not a directory: it is never made, since it may be where something is to be mounted.
func (d *Directory) there() error {
	info, err := os.Stat(d.root)
	switch {
	case errors.Is(err, fs.ErrNotExist), err == nil && !info.IsDir():
		return fmt.Errorf("%s is not a directory: %w", d.root, ErrNoBucket)
	}
	return classify(err)
}

// lock keeps other writers out while a condition is looked at and the file gets its name.
func (d *Directory) lock() (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(d.root, lockName), os.O_CREATE|os.O_RDWR, 0o640)
	if err != nil {
		return nil, classify(err)
	}
	for {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("lock: %w", err)
	}
	return func() { f.Close() }, nil
}

// syncFolders makes a new name, and those of the folders above it, durable.
func (d *Directory) syncFolders(folder string) error {
	for {
		f, err := os.Open(folder)
		if err != nil {
			return err
		}
		if err := errors.Join(f.Sync(), f.Close()); err != nil {
			return err
		}
		if folder == d.root || len(folder) <= len(d.root) {
			return nil
		}
		folder = filepath.Dir(folder)
	}
}

func etagOf(file string) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer f.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(sum.Sum(nil)[:16]), nil
}

// Get implements Store.
func (d *Directory) Get(ctx context.Context, key string) (io.ReadCloser, Info, error) {
	if err := checkKey(key); err != nil {
		return nil, Info{}, err
	}
	info, err := d.Head(ctx, key)
	if err != nil {
		return nil, Info{}, err
	}
	f, err := os.Open(d.file(key))
	if err != nil {
		return nil, Info{}, fmt.Errorf("get %s from %s: %w", key, d, classify(err))
	}
	return struct {
		io.Reader
		io.Closer
	}{untilDone{ctx, f}, f}, info, nil
}

// Head implements Store.
func (d *Directory) Head(ctx context.Context, key string) (Info, error) {
	if err := errors.Join(checkKey(key), ctx.Err()); err != nil {
		return Info{}, err
	}
	file := d.file(key)
	about, err := os.Stat(file)
	if err == nil && about.IsDir() {
		err = fs.ErrNotExist
	}
	var etag string
	if err == nil {
		etag, err = etagOf(file)
	}
	if err != nil {
		if missing := d.there(); missing != nil {
			err = missing
		}
		return Info{}, fmt.Errorf("get %s from %s: %w", key, d, classify(err))
	}
	return Info{Key: key, Size: about.Size(), ETag: etag, Modified: about.ModTime()}, nil
}

// List implements Store. Its infos have no etag, which would take reading all objects.
func (d *Directory) List(ctx context.Context, prefix string) iter.Seq2[Info, error] {
	return func(yield func(Info, error) bool) {
		found, err := d.find(ctx, prefix)
		if err != nil {
			yield(Info{}, fmt.Errorf("list %s in %s: %w", prefix, d, err))
			return
		}
		for _, info := range found {
			if !yield(info, nil) {
				return
			}
		}
	}
}

func (d *Directory) find(ctx context.Context, prefix string) (found []Info, err error) {
	if err := d.there(); err != nil {
		return nil, err
	}
	folder := ""
	if i := strings.LastIndexByte(prefix, '/'); i >= 0 {
		folder = prefix[:i]
	}
	err = filepath.WalkDir(filepath.Join(d.root, filepath.FromSlash(folder)), func(file string, e fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist): // removed meanwhile, or nothing was ever put there
			return nil
		case err != nil:
			return classify(err)
		case ctx.Err() != nil:
			return ctx.Err()
		case e.IsDir(), strings.HasPrefix(e.Name(), "."):
			return nil
		}
		rel, err := filepath.Rel(d.root, file)
		if err != nil {
			return err
		}
		key := filepath.ToSlash(rel)
		if !strings.HasPrefix(key, prefix) {
			return nil
		}
		about, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		found = append(found, Info{Key: key, Size: about.Size(), Modified: about.ModTime()})
		return nil
	})
	slices.SortFunc(found, func(a, b Info) int { return strings.Compare(a.Key, b.Key) })
	return found, err
}

// Delete implements Store.
func (d *Directory) Delete(ctx context.Context, key string) error {
	if err := errors.Join(checkKey(key), ctx.Err()); err != nil {
		return err
	}
	err := os.Remove(d.file(key))
	if errors.Is(err, fs.ErrNotExist) {
		return d.there()
	}
	if err != nil {
		return fmt.Errorf("delete %s from %s: %w", key, d, classify(err))
	}
	return nil
}

func (d *Directory) file(key string) string { return filepath.Join(d.root, filepath.FromSlash(key)) }

func (d *Directory) String() string { return "file://" + d.root }

// classify marks the errors of files as those of the contract.
func classify(err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w: %w", ErrNotFound, err)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w: %w", ErrDenied, err)
	}
	return err
}

// untilDone ends reading when a context does.
type untilDone struct {
	ctx context.Context
	r   io.Reader
}

func (u untilDone) Read(p []byte) (int, error) {
	if err := u.ctx.Err(); err != nil {
		return 0, err
	}
	return u.r.Read(p)
}
