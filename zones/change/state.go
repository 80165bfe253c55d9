package change

import (
	"errors"

	"balefire/zones"
)

// ErrState means that stored octets of a Zone or a Stage are damaged.
var ErrState = errors.New("damaged zone or stage state")

// AppendState appends the stored form of z, which is part of the disk format.
func (z Zone) AppendState(dst []byte) []byte { return dst }

// ParseZone is the inverse of Zone.AppendState.
func ParseZone(b []byte) (Zone, error) { return Zone{}, ErrState }

// AppendState appends the stored form of s, which is part of the disk format.
func (s Stage) AppendState(dst []byte) []byte { return dst }

// ParseStage is the inverse of Stage.AppendState, for a stage of the zone apex.
func ParseStage(b []byte, apex zones.Name) (Stage, error) { return Stage{}, ErrState }
