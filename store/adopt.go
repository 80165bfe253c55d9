package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// Adopt makes a directory that Restore made, on the same file system, the partition's own. The partition is not open and
// has no directory. A directory of another partition or topic is ErrOtherTopic, and stays where it is.
func (s *Store) Adopt(partition int32, topicID [16]byte, dir string) error {
	m, id, err := readMeta(dir)
	if err != nil {
		return fmt.Errorf("adopt %s: %w", dir, err)
	}
	if m.Partition != partition || id != topicID {
		return fmt.Errorf("adopt %s: it is partition %d of topic %x: %w", dir, m.Partition, id, ErrOtherTopic)
	}
	own := partitionDir(s.opts.Dir, partition)
	if _, err := os.Stat(own); !errors.Is(err, os.ErrNotExist) {
		return errors.Join(fmt.Errorf("adopt %s: partition %d has files already", dir, partition), err)
	}
	if err := os.Rename(dir, own); err != nil {
		return err
	}
	return errors.Join(syncDir(filepath.Dir(own)), syncDir(filepath.Dir(dir)))
}
