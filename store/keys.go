package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"balefire/zones"
)

// This file alone knows the octets of keys. All numbers are big-endian, so that they sort. The first octet
// is the kind:
//
//	kind                                                        value
//	'm' 0x02                                                    applied: offset, epoch, record hash, digest
//	'm' 0x03                                                  D state: format level, partition time
//	'z' apex                                                  D zone state
//	's' apex                                                  D state of the zone's staged generation
//	'i' change ID 16                                          D first outcome of a change set, until it expires
//	't' milliseconds 8 | 'i' change ID 16  or  's' apex       D what expires then (no value)
//	'd' generation 8 | space 1 | owner | 0x00 | type 2 | covered 2   packed RRset
//	'g' generation 8                                            dead generation: the apex it was of
//	'h' apex | 0x00 | sequence 8                                history entry
//	'y' offset 8                                                history by position: apex, sequence
//	'o' offset 8                                                outcome
//	'c' offset 8                                                digest remembered at the offset
//
// D marks what the partition's digest covers: all that applying reads. RRsets are covered by the digest
// of their zone, which is in the zone's state, or in that of the stage.
//
// An apex is zones.Name.AppendKey; an owner is AppendRelativeKey: labels from the top down, none of them
// empty, each ended by 0x00, and no other 0x00. So 0x00 at a label's start ends a name, and no key is
// another's prefix in a way that matters: a name's own RRsets come right before those of the names below it,
// and RRsets sort as zones.CompareRRsets does. Space is 0 for names, 1 for the NSEC3 chain.
//
// Every value, even an empty one, ends in the CRC-32C of key and value, 4 octets.
const (
	kindMeta       = 'm'
	kindZone       = 'z'
	kindStage      = 's'
	kindID         = 'i'
	kindExpiry     = 't'
	kindData       = 'd'
	kindDead       = 'g'
	kindHistory    = 'h'
	kindHistoryAt  = 'y'
	kindOutcome    = 'o'
	kindCheckpoint = 'c'

	spaceNames  = 0
	spaceHashed = 1
)

var (
	keyApplied = []byte{kindMeta, 2}
	keyState   = []byte{kindMeta, 3}
)

// digested reports whether the partition's digest covers the key.
func digested(key []byte) bool {
	switch key[0] {
	case kindZone, kindStage, kindID, kindExpiry:
		return true
	}
	return string(key) == string(keyState)
}

// errKey means that octets are no key of the expected kind.
var errKey = errors.New("malformed key")

func zoneKey(dst []byte, apex zones.Name) []byte  { return apex.AppendKey(append(dst, kindZone)) }
func stageKey(dst []byte, apex zones.Name) []byte { return apex.AppendKey(append(dst, kindStage)) }

// apexOfKey is the inverse of zoneKey and stageKey.
func apexOfKey(key []byte) (zones.Name, error) {
	if len(key) == 0 || key[0] != kindZone && key[0] != kindStage {
		return "", errKey
	}
	return zones.NameFromKey(key[1:], zones.Root)
}

func idKey(dst []byte, id zones.ChangeID) []byte {
	return append(append(dst, kindID), id[:]...)
}

// expiryKey is the key by which target, an ID's or a stage's key, expires at a time in milliseconds.
func expiryKey(dst []byte, at int64, target []byte) []byte {
	dst = append(dst, kindExpiry)
	dst = binary.BigEndian.AppendUint64(dst, uint64(at))
	return append(dst, target...)
}

func parseExpiryKey(key []byte) (at int64, target []byte, err error) {
	if len(key) < 10 || key[0] != kindExpiry || key[9] != kindID && key[9] != kindStage {
		return 0, nil, errKey
	}
	return int64(binary.BigEndian.Uint64(key[1:])), key[9:], nil
}

// dataPrefix is the prefix of all RRsets of a generation, or with space, of one of its spaces.
func dataPrefix(dst []byte, generation int64, space ...byte) []byte {
	dst = append(dst, kindData)
	dst = binary.BigEndian.AppendUint64(dst, uint64(generation))
	return append(dst, space...)
}

// dataPrefixLen is the length of dataPrefix with a space: where the owner begins.
const dataPrefixLen = 10

// ownerPrefix is the prefix of an owner's own RRsets: the last octet is the 0x00 after its name. Without
// that octet it is the prefix of those and of all below the owner.
func ownerPrefix(dst []byte, generation int64, space byte, owner, apex zones.Name) []byte {
	return append(owner.AppendRelativeKey(dataPrefix(dst, generation, space), apex), 0)
}

func rrsetKey(dst []byte, generation int64, owner, apex zones.Name, key zones.Key) []byte {
	return appendType(ownerPrefix(dst, generation, spaceOf(key), owner, apex), key)
}

func appendType(dst []byte, key zones.Key) []byte {
	dst = binary.BigEndian.AppendUint16(dst, uint16(key.Type))
	return binary.BigEndian.AppendUint16(dst, uint16(key.Covered))
}

func spaceOf(key zones.Key) byte {
	if key.Hashed() {
		return spaceHashed
	}
	return spaceNames
}

// splitDataKey cuts the key of an RRset into its parts. The owner stays in key form, without its end.
func splitDataKey(key []byte) (generation int64, space byte, owner []byte, k zones.Key, err error) {
	end := len(key) - 5
	if end < dataPrefixLen || key[0] != kindData || key[end] != 0 || key[9] > spaceHashed {
		return 0, 0, nil, k, errKey
	}
	k.Type = zones.Type(binary.BigEndian.Uint16(key[end+1:]))
	k.Covered = zones.Type(binary.BigEndian.Uint16(key[end+3:]))
	return int64(binary.BigEndian.Uint64(key[1:])), key[9], key[dataPrefixLen:end], k, nil
}

func numberKey(dst []byte, kind byte, n int64) []byte {
	return binary.BigEndian.AppendUint64(append(dst, kind), uint64(n))
}

// deadKey, outcomeKey, checkpointKey and historyAtKey are by generation or offset.
func deadKey(dst []byte, generation int64) []byte   { return numberKey(dst, kindDead, generation) }
func outcomeKey(dst []byte, offset int64) []byte    { return numberKey(dst, kindOutcome, offset) }
func checkpointKey(dst []byte, offset int64) []byte { return numberKey(dst, kindCheckpoint, offset) }
func historyAtKey(dst []byte, offset int64) []byte  { return numberKey(dst, kindHistoryAt, offset) }

// parseNumberKey is the inverse of numberKey.
func parseNumberKey(key []byte, kind byte) (int64, error) {
	if len(key) != 9 || key[0] != kind {
		return 0, errKey
	}
	return int64(binary.BigEndian.Uint64(key[1:])), nil
}

// historyPrefix is the prefix of a zone's history.
func historyPrefix(dst []byte, apex zones.Name) []byte {
	return append(apex.AppendKey(append(dst, kindHistory)), 0)
}

func historyKey(dst []byte, apex zones.Name, sequence int64) []byte {
	return binary.BigEndian.AppendUint64(historyPrefix(dst, apex), uint64(sequence))
}

func parseHistoryKey(key []byte) (apex zones.Name, sequence int64, err error) {
	end := len(key) - 9
	if end < 1 || key[0] != kindHistory || key[end] != 0 {
		return "", 0, errKey
	}
	apex, err = zones.NameFromKey(key[1:end], zones.Root)
	return apex, int64(binary.BigEndian.Uint64(key[end+1:])), err
}

// after returns the first key past all keys that begin with prefix, whose last octet is not 0xff.
func after(prefix []byte) []byte {
	end := append([]byte(nil), prefix...)
	for i := len(end) - 1; i >= 0; i-- {
		if end[i] != 0xff {
			end[i]++
			return end[:i+1]
		}
	}
	return nil
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// crcLen is the length of what seal appends.
const crcLen = 4

// seal appends the checksum of key and value to value.
func seal(key, value []byte) []byte {
	sum := crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, value)
	return binary.BigEndian.AppendUint32(value, sum)
}

// unseal checks and takes off the checksum. The result shares sealed's memory.
func unseal(key, sealed []byte) ([]byte, error) {
	end := len(sealed) - crcLen
	if end >= 0 {
		sum := crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, sealed[:end])
		if sum == binary.BigEndian.Uint32(sealed[end:]) {
			return sealed[:end:end], nil
		}
	}
	return nil, fmt.Errorf("checksum of key %x: %w", key, ErrCorrupt)
}
