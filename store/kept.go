package store

import (
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
)

// An increment after offset N needs, of each key that has changed since, its newest version, or that it is gone; both of
// which Badger drops as soon as it may. So versions are kept from the last verified snapshot on, and from the position of
// each snapshot that is being made. The former is also in the file KEPT, so that a restart does not end it:
//
//   - KEPT is written before what an earlier one had kept may be dropped. A crash in between leaves more than it says.
//   - KEPT is removed before all is let go. A crash in between leaves more than nothing, and nobody relies on it.
//   - A new database drops nothing before its first record, and KEPT is read when it is opened.
//
// Keeping is bounded: when increments don't come, the next snapshot has to be a full one.
const (
	keptFile = "KEPT"

	// keptRecords and keptOctets are what is applied, at most, behind the last verified snapshot, before it is let go.
	keptRecords = 4 << 20
	keptOctets  = 1 << 30
)

// keptNone is the offset when nothing is kept.
const keptNone = -1

// Saving holds a partition's position while a snapshot of it is made: until Close, what has changed after it is not
// dropped. Several may be open at once. It does not keep the partition from closing.
type Saving struct {
	p  *Partition
	at *publication
}

// Save begins a snapshot of the published position. ErrClosed when the partition is closed.
func (p *Partition) Save() (*Saving, error) {
	p.readMu.Lock()
	defer p.readMu.Unlock()
	if p.closed {
		return nil, ErrClosed
	}
	s := &Saving{p: p, at: p.published.Load()}
	p.savings[s] = struct{}{}
	return s, nil
}

// Applied returns the position that the snapshot is of.
func (s *Saving) Applied() Applied { return s.at.applied() }

// Verified tells the partition that this snapshot is safe: an increment can follow it, also after a restart.
func (s *Saving) Verified() error { return s.p.keepFrom(s.at.offset) }

// Close ends the holding. More than one call does nothing.
func (s *Saving) Close() {
	s.p.readMu.Lock()
	delete(s.p.savings, s)
	s.p.readMu.Unlock()
}

// begin opens a reader at the position that is held.
func (s *Saving) begin() (session, error) {
	p := s.p
	p.readMu.Lock()
	defer p.readMu.Unlock()
	if _, open := p.savings[s]; p.closed || !open {
		return session{}, ErrClosed
	}
	p.readers[s.at.ts()]++
	return session{reader: openReader(p.db, s.at.ts(), nil), p: p, at: s.at}, nil
}

// ErrNoIncrement means that not all is kept that has changed since the offset, so that only a full snapshot will do.
var ErrNoIncrement = errors.New("what has changed since then is not all kept")

// Verified tells the partition that a snapshot at offset has been verified, so that an increment can follow it, also
// after a restart. ErrNoIncrement when something after it may be gone already: it must have been held (Save), or be
// after the last one verified. A negative offset ends the keeping, for nodes that make no increments.
func (p *Partition) Verified(offset int64) error { return p.keepFrom(offset) }

// Kept returns the offset after which all changes are kept for increments; -1 when none are.
func (p *Partition) Kept() int64 { return p.verified.Load() }

func (p *Partition) keepFrom(offset int64) error {
	p.keepMu.Lock()
	defer p.keepMu.Unlock()
	if offset < 0 {
		return p.letGo()
	}
	p.readMu.Lock()
	if p.closed {
		p.readMu.Unlock()
		return ErrClosed
	}
	if !p.mayIncrement(offset) {
		p.readMu.Unlock()
		return fmt.Errorf("keep what changes after %s: %w", Position{p.number, offset}, ErrNoIncrement)
	}
	first := p.verified.Load() < 0
	if first {
		p.verified.Store(offset) // under the lock: the next to be published must not let go of it
	}
	p.readMu.Unlock()
	if err := p.writeKept(offset); err != nil {
		if first {
			p.verified.Store(keptNone)
		}
		return fmt.Errorf("keep what changes after %s: %w", Position{p.number, offset}, err)
	}
	p.keptOctets.Store(0)
	p.verified.Store(offset)
	p.discard()
	return nil
}

// mayIncrement reports whether all that has changed after the offset is there. The caller holds readMu.
func (p *Partition) mayIncrement(since int64) bool {
	published := p.published.Load().offset
	if since < 0 || since >= published {
		return since >= 0 && since == published
	}
	if kept := p.verified.Load(); kept >= 0 && kept <= since {
		return true
	}
	for s := range p.savings {
		if s.at.offset <= since {
			return true
		}
	}
	return false
}

// letGo ends the keeping. The caller holds keepMu.
func (p *Partition) letGo() error {
	if p.verified.Load() < 0 {
		return nil
	}
	dir := partitionDir(p.store.opts.Dir, p.number)
	if err := os.Remove(filepath.Join(dir, keptFile)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := syncDir(dir); err != nil {
		return err
	}
	p.verified.Store(keptNone)
	p.discard()
	return nil
}

// boundKept lets go of what is kept when it has become too much. The writer calls it after each commit.
func (p *Partition) boundKept(octets int64) {
	kept := p.verified.Load()
	if kept < 0 {
		return
	}
	grown := p.keptOctets.Add(octets)
	if grown <= keptOctets && p.published.Load().offset-kept <= p.keptRecords {
		return
	}
	p.keepMu.Lock()
	defer p.keepMu.Unlock()
	if p.verified.Load() != kept {
		return
	}
	if err := p.letGo(); err != nil {
		p.log.Warn().Err(err).Msg("letting go of what is kept for increments")
		return
	}
	p.log.Warn().Int64("since", kept).Msg("too much has changed since the last verified snapshot: the next one will be full")
}

// KEPT is one line: the offset, and the CRC-32C of its digits.
func keptText(offset int64) []byte {
	digits := fmt.Sprintf("%d", offset)
	return fmt.Appendf(nil, "%s %08x\n", digits, crc32.Checksum([]byte(digits), castagnoli))
}

func (p *Partition) writeKept(offset int64) error {
	return writeFileSynced(filepath.Join(partitionDir(p.store.opts.Dir, p.number), keptFile), keptText(offset))
}

// readKept reads what is kept since before the partition was opened. A file that is not what was written keeps nothing.
func (p *Partition) readKept() (int64, error) {
	b, err := os.ReadFile(filepath.Join(partitionDir(p.store.opts.Dir, p.number), keptFile))
	if errors.Is(err, os.ErrNotExist) {
		return keptNone, nil
	}
	if err != nil {
		return keptNone, err
	}
	var offset int64
	if _, err := fmt.Sscanf(string(b), "%d", &offset); err != nil || string(keptText(offset)) != string(b) ||
		offset < 0 || offset > p.published.Load().offset {
		p.log.Warn().Str("file", keptFile).Msg("not what was written: the next snapshot will be full")
		return keptNone, nil
	}
	return offset, nil
}
