package store

import (
	"errors"
	"os"
	"path/filepath"
	"time"
)

// leftFile, in a partition's directory, says by its time since when the partition is another node's.
const leftFile = "LEFT"

// Leave marks the files of a partition that is not open as another node's from now on. They stay, in case it comes back:
// Open removes the mark.
func (s *Store) Leave(partition int32) error {
	dir := partitionDir(s.opts.Dir, partition)
	if _, err := os.Stat(dir); err != nil {
		return err
	}
	return writeFileSynced(filepath.Join(dir, leftFile), nil)
}

// LeftSince returns since when a partition is another node's.
func (s *Store) LeftSince(partition int32) (since time.Time, left bool) {
	info, err := os.Stat(filepath.Join(partitionDir(s.opts.Dir, partition), leftFile))
	if err != nil {
		return time.Time{}, false
	}
	return info.ModTime(), true
}

// returned removes the mark of a partition that is opened.
func returned(dir string) error {
	err := os.Remove(filepath.Join(dir, leftFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// Remove removes the files of a partition that is not open. A crash may leave some, which are no partition any more.
func (s *Store) Remove(partition int32) error {
	if s.Partition(partition) != nil {
		return errors.New("the partition is open")
	}
	dir := partitionDir(s.opts.Dir, partition)
	gone := dir + restoreSuffix // New removes it, should this not end
	if err := os.Rename(dir, gone); err != nil {
		return err
	}
	return errors.Join(os.RemoveAll(gone), syncDir(filepath.Dir(dir)))
}
