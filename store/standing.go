package store

import (
	"errors"
	"fmt"
)

// Secondary zones may be hosted without being answered from: before anything has come from their primaries, and after these have been
// silent for too long. Find says then that they are Unavailable, by ErrAwaiting or ErrExpired; they are in the index all the same, since no
// other zone has their names; and they are not in memory.

// withheld says why the zone is not answered from; nil when it is.
func (z *zoneState) withheld() error {
	switch {
	case z.Standing.Awaiting:
		return ErrAwaiting
	case z.Standing.Expired:
		return ErrExpired
	}
	return nil
}

// Withheld reports whether err says that a zone is hosted and not answered from: ErrAwaiting or ErrExpired. Every copy says so.
func Withheld(err error) bool { return errors.Is(err, ErrAwaiting) || errors.Is(err, ErrExpired) }

// EachPeered is EachZone for the zones that have primaries, or remotes to notify, or are catalogs.
func (p *Partition) EachPeered(fn func(ZoneInfo) (more bool)) error {
	return p.eachZone(func(z *zoneState) bool { return z.Settings.IsPeered() }, fn)
}

// EachZone calls fn for each zone of the partition, in canonical order, until it returns false.
// It reads the states of all zones at one position, one after the other, in bounded memory. While fn waits, what has changed since that
// position is kept on disk; ErrClosed when the partition is being closed, which waits for fn to return.
func (p *Partition) EachZone(fn func(ZoneInfo) (more bool)) error {
	return p.eachZone(func(*zoneState) bool { return true }, fn)
}

func (p *Partition) eachZone(wanted func(*zoneState) bool, fn func(ZoneInfo) (more bool)) error {
	r, err := p.begin()
	if err != nil {
		return err
	}
	defer r.end()
	err = r.scan([]byte{kindZone}, []byte{kindZone + 1}, func(e entry) (bool, error) {
		select {
		case <-p.closing:
			return false, ErrClosed
		default:
		}
		value, err := e.value()
		if err != nil {
			return false, err
		}
		z, err := parseZoneState(value)
		if err != nil {
			return false, err
		}
		if !wanted(&z) {
			return true, nil
		}
		apex, err := apexOfKey(e.key)
		if err != nil {
			return false, fmt.Errorf("key %x: %w: %w", e.key, err, ErrCorrupt)
		}
		return fn(p.info(apex, z)), nil
	})
	return p.suspect("", err)
}
