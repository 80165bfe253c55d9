package mutationlog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// A namespace that is being moved takes no more changes: what is published after the mover has read the log's end would be
// left behind. That is the key "frozen" of the control topic. A node knows of it as soon as it has read it; the mover
// waits for all of them, and what is published meanwhile is moved too.
const (
	frozenKey = "frozen"
	// maxFreezeText bounds where to and why, in octets: both are in the error of every refused change.
	maxFreezeText = 500
)

// ErrFrozen means that the namespace takes no changes.
var ErrFrozen = errors.New("the namespace is frozen")

// Freeze is why a namespace takes no changes.
type Freeze struct {
	To     string    // where it goes, for people
	Reason string    // for people
	Since  time.Time // in UTC, to the second
}

func (f Freeze) String() string {
	text := "no changes are taken"
	if !f.Since.IsZero() {
		text += " since " + f.Since.Format(time.RFC3339)
	}
	if f.To != "" {
		text += ", send them to " + f.To
	}
	if f.Reason != "" {
		text += " (" + f.Reason + ")"
	}
	return text
}

// freezeRecord is the value of the control topic's frozen.
type freezeRecord struct {
	V      int       `json:"v"`
	Frozen bool      `json:"frozen"`
	To     string    `json:"to,omitempty"`
	Reason string    `json:"reason,omitempty"`
	Since  time.Time `json:"since,omitzero"`
}

// parseFreeze returns nil for a namespace that takes changes. A record that is not known here freezes it: a change that is
// refused comes again, one that is left behind is lost.
func parseFreeze(value []byte) (*Freeze, error) {
	var r freezeRecord
	err := json.Unmarshal(value, &r)
	if err == nil && r.V != controlVersion {
		err = fmt.Errorf("version %d is not known here", r.V)
	}
	if err != nil {
		return &Freeze{Reason: "by a record that this program does not understand"}, err
	}
	if !r.Frozen {
		return nil, nil
	}
	return &Freeze{To: r.To, Reason: r.Reason, Since: r.Since.UTC().Truncate(time.Second)}, nil
}

// Frozen reports whether the namespace takes no changes, and why. Control().Changed() tells when to ask again.
func (l *Log) Frozen() (Freeze, bool) {
	l.control.mu.Lock()
	defer l.control.mu.Unlock()
	if l.control.frozen == nil {
		return Freeze{}, false
	}
	return *l.control.frozen, true
}

// Freeze makes all nodes of the namespace refuse changes, each as soon as it reads of it. For a namespace that goes to the
// same place already nothing is written; one that goes elsewhere must be thawed first. The errors are Publish's.
func (l *Log) Freeze(ctx context.Context, to, reason string) error {
	if len(to) > maxFreezeText || len(reason) > maxFreezeText {
		return fmt.Errorf("freeze the namespace: %w: where to and why may have %d octets each", ErrRefused, maxFreezeText)
	}
	if f, frozen := l.Frozen(); frozen {
		if f.To == to {
			return nil
		}
		return fmt.Errorf("freeze the namespace: %w: %w: %v; thaw it first", ErrRefused, ErrFrozen, f)
	}
	return l.putFreeze(ctx, freezeRecord{V: controlVersion, Frozen: true, To: to, Reason: reason, Since: time.Now().UTC().Truncate(time.Second)})
}

// Thaw makes the namespace take changes again. The errors are Publish's.
func (l *Log) Thaw(ctx context.Context) error {
	if _, frozen := l.Frozen(); !frozen {
		return nil
	}
	return l.putFreeze(ctx, freezeRecord{V: controlVersion})
}

func (l *Log) putFreeze(ctx context.Context, record freezeRecord) error {
	value, err := json.Marshal(record)
	if err != nil {
		return err
	}
	return l.PutControl(ctx, frozenKey, value)
}
