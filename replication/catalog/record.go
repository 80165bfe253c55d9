package catalog

import (
	"encoding/binary"
	"errors"
	"fmt"

	"balefire/zones"
)

// The value of a record (docs/formats/catalog.md):
//
//	+--------+-----------+-----------------+--------------+
//	| 1 (u8) | state (u8)| partition (u32) | offset (u64) |
//	+--------+-----------+-----------------+--------------+
//
// Its key is the apex as text, in lower case, with its final dot. Version and states are part of the format, and don't change.
const (
	recordVersion = 1
	recordSize    = 1 + 1 + 4 + 8

	stateDeleted = 0
	stateHosted  = 1
)

var errRecord = errors.New("not an entry of the catalog")

func appendRecord(apex zones.Name, partition int32, e Entry) Record {
	value := make([]byte, 0, recordSize)
	value = append(value, recordVersion, stateOf(e))
	value = binary.BigEndian.AppendUint32(value, uint32(partition))
	value = binary.BigEndian.AppendUint64(value, uint64(e.Offset))
	return Record{Key: []byte(apex.String()), Value: value}
}

func stateOf(e Entry) byte {
	if e.Hosted {
		return stateHosted
	}
	return stateDeleted
}

// parseRecord reads a record. Those of later versions are not understood.
func parseRecord(r Record) (apex zones.Name, partition int32, e Entry, err error) {
	v := r.Value
	if len(v) != recordSize || v[0] != recordVersion || v[1] > stateHosted {
		return "", 0, e, errRecord
	}
	apex, err = zones.ParseName(string(r.Key))
	if err != nil {
		return "", 0, e, fmt.Errorf("%w: %w", errRecord, err)
	}
	if apex.String() != string(r.Key) {
		return "", 0, e, errRecord // another spelling would be another key
	}
	e = Entry{Hosted: v[1] == stateHosted, Offset: int64(binary.BigEndian.Uint64(v[6:]))}
	partition = int32(binary.BigEndian.Uint32(v[2:]))
	if partition < 0 || e.Offset < 0 {
		return "", 0, e, errRecord
	}
	return apex, partition, e, nil
}
