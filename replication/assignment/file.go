package assignment

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// fileVersion is that of the file: docs/formats/assignment.md.
const fileVersion = 1

// savedFile is what a group gave to a node.
type savedFile struct {
	V          int     `json:"v"`
	Topic      string  `json:"topic_id"`
	Group      string  `json:"group"`
	Partitions []int32 `json:"partitions"`
}

// readFile returns what was given last; nothing when the file is of another topic or group.
func readFile(file string, topic [16]byte, group string) ([]int32, error) {
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var saved savedFile
	if err := json.Unmarshal(text, &saved); err != nil {
		return nil, fmt.Errorf("%s can't be used: %w", file, err)
	}
	if saved.V != fileVersion {
		return nil, fmt.Errorf("%s can't be used: it is of version %d, this program knows %d", file, saved.V, fileVersion)
	}
	if saved.Topic != hex.EncodeToString(topic[:]) || saved.Group != group {
		return nil, nil
	}
	if slices.ContainsFunc(saved.Partitions, func(p int32) bool { return p < 0 }) {
		return nil, fmt.Errorf("%s can't be used: it has a negative partition", file)
	}
	return saved.Partitions, nil
}

// writeFile puts the file in the place of the one before: a crash leaves the one or the other, whole.
func writeFile(file string, topic [16]byte, group string, partitions []int32) error {
	text, err := json.Marshal(savedFile{V: fileVersion, Topic: hex.EncodeToString(topic[:]), Group: group, Partitions: partitions})
	if err != nil {
		return err
	}
	unfinished := file + ".unfinished"
	f, err := os.OpenFile(unfinished, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(append(text, '\n'))
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(unfinished, file); err != nil {
		return err
	}
	folder, err := os.Open(filepath.Dir(file))
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}
