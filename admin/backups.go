package admin

import (
	"cmp"
	"context"
	"io"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"
)

// Backups makes backups of what this node holds.
type Backups interface {
	// BackUp backs up partitions, nil meaning all that this node holds, now rather than when it is next due. The error is of those
	// partitions that the answer lacks.
	BackUp(ctx context.Context, partitions []int32) ([]BackupMade, error)
}

// BackupMade is what became of one partition's backup.
type BackupMade struct {
	Partition int32
	Offset    int64 // of the last record in it
	Octets    uint64
	Made      time.Time // zero when Skipped
	Skipped   string    // why none was needed; "" when one was made
	Err       error     // why none was made, where that is known of this partition
}

// backupMade is BackupMade as the API shows it, or what went wrong.
type backupMade struct {
	Partition int32      `json:"partition"`
	Node      string     `json:"node,omitempty"`
	Offset    *int64     `json:"offset,omitempty"`
	Octets    uint64     `json:"octets,omitempty"`
	Made      *time.Time `json:"made,omitempty"`
	Skipped   string     `json:"skipped,omitempty"`
	Error     string     `json:"error,omitempty"`
}

type backupsMade struct {
	Backups []backupMade `json:"backups"`
}

// maxBackupsAnswer bounds a peer's answer, in octets: a line for each partition.
const maxBackupsAnswer = 4 << 20

// postBackups backs up every partition of the namespace once, whichever node of the region holds it.
func (s *Server) postBackups(w http.ResponseWriter, r *http.Request) error {
	query, err := queryOf(r, "partitions")
	if err != nil {
		return err
	}
	wanted, err := s.partitionsOf(query)
	if err != nil {
		return err
	}
	own, others := s.divide(wanted)
	if s.relayed(r) && len(others) > 0 {
		return notHeld(others[0])
	}
	if s.opts.Backups == nil && len(own) > 0 && s.opts.Peers == nil {
		return notKnown("this node has no object store for backups")
	}
	l := &s.opts.Limits
	if _, err := io.Copy(io.Discard, http.MaxBytesReader(w, r.Body, l.Body)); err != nil {
		return err
	}
	patient(w)                                                                                     // it is read to its end, and the answer may take long
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(l.LongWait + l.BodyTimeout)) // not supported only by tests' writers
	var mu sync.Mutex                                                                              // guards made
	var made []backupMade
	note := func(more ...backupMade) {
		mu.Lock()
		defer mu.Unlock()
		made = append(made, more...)
	}
	var working sync.WaitGroup
	working.Go(func() { note(s.backUp(r.Context(), own)...) })
	nobody := s.spread(others, func(of share) []int32 {
		at := &url.URL{Path: "/v1/backups", RawQuery: url.Values{"partitions": {partitionsText(of.partitions)}}.Encode()}
		a, err := s.askPeer(r, of.peer, l.LongWait, maxBackupsAnswer, http.MethodPost, at, nil)
		var got backupsMade
		if err == nil {
			err = a.json(&got)
		}
		if err != nil {
			return of.partitions
		}
		note(got.Backups...)
		return nil
	})
	working.Wait()
	for _, p := range nobody {
		note(backupMade{Partition: p, Error: unheld(p).Detail})
	}
	slices.SortFunc(made, func(a, b backupMade) int { return cmp.Compare(a.Partition, b.Partition) })
	return writeJSON(w, http.StatusOK, backupsMade{append([]backupMade{}, made...)})
}

// backUp makes this node's share.
func (s *Server) backUp(ctx context.Context, partitions []int32) []backupMade {
	if len(partitions) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, s.opts.Limits.LongWait)
	defer cancel()
	var list []BackupMade
	failure := "this node has no object store for backups"
	if s.opts.Backups != nil {
		var err error
		list, err = s.opts.Backups.BackUp(ctx, partitions)
		failure = "the node does not say what became of it"
		if err != nil {
			failure = err.Error()
		}
	}
	made := make([]backupMade, 0, len(partitions))
	for _, p := range partitions {
		i := slices.IndexFunc(list, func(b BackupMade) bool { return b.Partition == p })
		shown := backupMade{Partition: p, Node: s.opts.Node}
		switch {
		case i < 0:
			shown.Error = failure
		case list[i].Err != nil:
			shown.Error = list[i].Err.Error()
		default:
			b := list[i]
			shown.Offset, shown.Octets, shown.Made, shown.Skipped = &b.Offset, b.Octets, timeOrNil(b.Made), b.Skipped
		}
		made = append(made, shown)
	}
	return made
}
