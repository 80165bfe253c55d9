package store

import "balefire/zones"

// Compact makes Badger drop all that it may of what was written before the partition was opened.
func (p *Partition) Compact() error {
	p.discard()
	return p.db.Flatten(1)
}

// CollectOnce is one step of Collect.
func (p *Partition) CollectOnce() (more bool, err error) { return p.collect() }

// CollectStep is how many keys one step removes.
const CollectStep = collectStep

// KeepRecords sets how many records what is kept for increments may be behind.
func (p *Partition) KeepRecords(n int64) { p.keptRecords = n }

// SlotsUsed returns how many zones have a slot.
func (s *Store) SlotsUsed() int {
	s.hot.mu.Lock()
	defer s.hot.mu.Unlock()
	return int(s.hot.next) - len(s.hot.free)
}

// ReadWhole sets how many RRsets a zone may have to be read whole for a question.
func (s *Store) ReadWhole(most uint64) { s.readWhole = most }

// Load brings a zone into memory, if it may be there.
func (p *Partition) Load(apex zones.Name) error { return p.load(apex) }

// KeepRead reads a small zone as for a question, lets something happen, and reports whether what was read then came into memory.
func (p *Partition) KeepRead(apex zones.Name, meanwhile func()) (kept bool, err error) {
	v, err := p.openCold(apex)
	if err != nil {
		return false, err
	}
	defer v.end()
	meanwhile()
	return p.keepWhole(v), nil
}
