package store

// Apply applies records, in order, and returns an outcome for each that was not skipped; records at or
// below the applied offset are skipped. A record that can't be decoded, or is rejected, is an outcome, not an
// error. A gap before or inside recs is ErrGap; see ApplyAfter.
//
// It commits in as few synced transactions as limits allow. When it fails, outcomes of what is committed
// are returned with the error: ErrDiskReserve (try again later), ErrPoisoned (reopen), or one marked
// ErrCorrupt (rebuild).
func (p *Partition) Apply(recs []Record) ([]Outcome, error) { panic("being built") }

// ApplyAfter is Apply for records that follow others which carry no data: control records, or compacted
// ones. The caller vouches that the offsets from the applied one to the first record of recs, and those
// missing between records, hold no change set.
func (p *Partition) ApplyAfter(recs []Record) ([]Outcome, error) { panic("being built") }
