package replication

import (
	"fmt"
	"syscall"
)

// diskFree returns the free octets of the file system of a directory.
func (n *Node) diskFree(dir string) (uint64, error) {
	if n.opts.Store.DiskFree != nil {
		free, _, err := n.opts.Store.DiskFree(dir)
		return free, err
	}
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return 0, fmt.Errorf("free space of %s: %w", dir, err)
	}
	return st.Bavail * uint64(st.Bsize), nil
}
