package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// diskGuard keeps the node away from a full disk, where Badger's memory-mapped files end the process (SIGBUS),
// and end it again at every opening. Below the reserve nothing is applied; reads go on. Below the
// floor, which is what opening a database may write, none is opened. The ballast is a file that has
// only one use: to be deleted when there is no other way to open.
type diskGuard struct {
	dir     string
	reserve uint64 // octets; 0 means reserveShare
	ballast int64
	floor   uint64
	free    func(dir string) (free, total uint64, err error)
}

const (
	reserveShare   = 15      // per cent of the file system
	reserveMost    = 8 << 30 // octets, when it is a share
	ballastFile    = "ballast"
	ballastDefault = 64 << 20
)

func diskFree(dir string) (free, total uint64, err error) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return 0, 0, fmt.Errorf("free space of %s: %w", dir, err)
	}
	return st.Bavail * uint64(st.Bsize), st.Blocks * uint64(st.Bsize), nil
}

// need returns an error when less than want(total) is free.
func (g *diskGuard) need(what string, want func(total uint64) uint64) error {
	free, total, err := g.free(g.dir)
	if err != nil {
		return err
	}
	if limit := want(total); free < limit {
		return fmt.Errorf("%s: %d MiB free, %d MiB needed: %w", what, free>>20, limit>>20, ErrDiskReserve)
	}
	return nil
}

func (g *diskGuard) reserved(total uint64) uint64 {
	if g.reserve > 0 {
		return g.reserve
	}
	return min(total/100*reserveShare, reserveMost)
}

// mayApply is asked before each transaction.
func (g *diskGuard) mayApply() error { return g.need("apply", g.reserved) }

// mayCollect is asked before removing what is dead, which makes room in the end, but writes first.
func (g *diskGuard) mayCollect() error {
	return g.need("collect", func(total uint64) uint64 { return min(g.reserved(total), 2*g.floor) })
}

// mayOpen is asked before a database is opened. It gives up the ballast if that helps.
func (g *diskGuard) mayOpen() error {
	floor := func(uint64) uint64 { return g.floor }
	err := g.need("open", floor)
	if err == nil || !errors.Is(err, ErrDiskReserve) {
		return err
	}
	if os.Remove(filepath.Join(g.dir, ballastFile)) != nil {
		return err
	}
	return g.need("open, without the ballast", floor)
}

// placeBallast writes the ballast, when there is room for it beside the reserve.
func (g *diskGuard) placeBallast() error {
	if g.ballast <= 0 {
		return nil
	}
	path := filepath.Join(g.dir, ballastFile)
	if info, err := os.Stat(path); err == nil && info.Size() == g.ballast {
		return nil
	}
	if g.need("ballast", func(total uint64) uint64 { return g.reserved(total) + uint64(g.ballast) }) != nil {
		return nil // later, then
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	// Written, not truncated to size, so that it takes blocks.
	block := make([]byte, 1<<20)
	for left := g.ballast; left > 0 && err == nil; left -= int64(len(block)) {
		_, err = f.Write(block[:min(left, int64(len(block)))])
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return nil
}
