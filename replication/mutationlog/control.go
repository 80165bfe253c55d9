package mutationlog

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"
)

// The control topic holds what every node of the namespace needs whole, one record for each key; the last one counts.
// A value is a JSON object whose "v" is its version (docs/formats/control.md). A node leaves alone what it does not
// know, by key or by version. Records are replaced, never deleted: the topic is compacted, and without tombstones
// its last offset always holds a record, so that a reader knows when it has read all.
const (
	namespaceKey   = "namespace"
	controlVersion = 1
	// maxControlRecord bounds a value of the control topic, in octets. Every node keeps them all in memory.
	maxControlRecord = 64 << 10
)

// Control is what the control topic says, as far as it has been read, and between starts what it said last. Its
// methods may be used from many goroutines.
type Control struct {
	file string
	log  zerolog.Logger

	mu        sync.Mutex
	topic     [16]byte // the control topic's id; zeros if it was never seen
	next      int64    // the offset to read next
	records   map[string][]byte
	recorded  namespaceRecord
	cookies   [][16]byte
	groups    map[string]groupRecord // by key
	frozen    *Freeze                // nil: it is not
	changed   chan struct{}          // closed at the next change
	cacheText []byte                 // what the file holds
}

// namespaceRecord is written once, by the first node of a namespace.
type namespaceRecord struct {
	V          int      `json:"v"`
	TopicID    [16]byte `json:"-"`
	Topic      string   `json:"mutations_topic_id"` // TopicID in hexadecimal
	Partitions int32    `json:"partitions"`
}

// cacheFile is the state of the control topic, as a file.
type cacheFile struct {
	V         int               `json:"v"`
	Namespace string            `json:"namespace"`
	Topic     string            `json:"control_topic_id"`
	Next      int64             `json:"next_offset"`
	Records   map[string][]byte `json:"records"`
	Sum       string            `json:"sha256"` // of this object with an empty sum
}

// loadControl reads the cache. One that can't be used is as good as none: the log has it all.
func loadControl(file, namespace string, log zerolog.Logger) *Control {
	c := &Control{file: file, log: log, records: make(map[string][]byte), groups: make(map[string]groupRecord), changed: make(chan struct{})}
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) || file == "" {
		return c
	}
	var cache cacheFile
	var topic [16]byte
	if err == nil {
		cache, topic, err = parseCache(data, namespace)
	}
	if err != nil {
		log.Warn().Err(err).Str("file", file).Msg("the copy of the control topic can't be used")
		return c
	}
	c.topic, c.next, c.cacheText = topic, cache.Next, data
	for key, value := range cache.Records {
		c.set(key, value)
	}
	return c
}

func parseCache(data []byte, namespace string) (cache cacheFile, topic [16]byte, err error) {
	if err := json.Unmarshal(data, &cache); err != nil {
		return cache, topic, err
	}
	sum := cache.Sum
	if _, err := cache.seal(); err != nil || cache.Sum != sum {
		return cache, topic, errors.New("its checksum does not fit")
	}
	if cache.V != controlVersion || cache.Namespace != namespace {
		return cache, topic, fmt.Errorf("it is of version %d and namespace %q", cache.V, cache.Namespace)
	}
	topic, err = parseID(cache.Topic)
	return cache, topic, err
}

// seal sets the checksum and returns the file's text.
func (f *cacheFile) seal() ([]byte, error) {
	f.Sum = ""
	text, err := json.Marshal(f)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(text)
	f.Sum = hex.EncodeToString(sum[:])
	return json.Marshal(f)
}

func parseID(s string) (id [16]byte, err error) {
	if n, err := hex.Decode(id[:], []byte(s)); err != nil || n != len(id) || len(s) != 2*len(id) {
		return id, fmt.Errorf("%q is not a topic id", s)
	}
	return id, nil
}

// Get returns the value of a key. It is not to be changed.
func (c *Control) Get(key string) (value []byte, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	value, ok = c.records[key]
	return value, ok
}

// List returns the records whose keys begin with a prefix. The values are not to be changed.
func (c *Control) List(prefix string) map[string][]byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := make(map[string][]byte)
	for key, value := range c.records {
		if strings.HasPrefix(key, prefix) {
			list[key] = value
		}
	}
	return list
}

// Changed returns a channel that is closed at the next change.
func (c *Control) Changed() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.changed
}

func (c *Control) namespace() (ns namespaceRecord, known bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.recorded, c.recorded.Partitions > 0
}

func (c *Control) topicID() [16]byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.topic
}

// set takes over one record; c.mu is held, or c not shared yet.
func (c *Control) set(key string, value []byte) {
	c.records[key] = value
	switch {
	case key == namespaceKey:
		var ns namespaceRecord
		err := json.Unmarshal(value, &ns)
		if err == nil && ns.V != controlVersion {
			err = fmt.Errorf("version %d", ns.V)
		}
		if err == nil {
			ns.TopicID, err = parseID(ns.Topic)
		}
		if err != nil || ns.Partitions <= 0 {
			c.log.Error().Err(err).Msg("control topic: the namespace's record can't be used")
			return
		}
		c.recorded = ns
	case key == cookieKey:
		secrets, err := parseCookieRecord(value)
		if err != nil {
			c.log.Error().Err(err).Msg("control topic: the cookie secrets can't be used")
			return
		}
		c.cookies = secrets.inUse()
	case key == frozenKey:
		frozen, err := parseFreeze(value)
		if err != nil {
			c.log.Error().Err(err).Msg("control topic: whether the namespace is frozen is not known")
		}
		c.frozen = frozen
	case strings.HasPrefix(key, groupPrefix):
		group, err := parseGroup(key, value)
		if err != nil {
			c.log.Error().Err(err).Str("key", key).Msg("control topic: a replica group can't be used")
			return
		}
		c.groups[key] = group
	}
}

// applyBatch takes over records as they come, and tells who waits.
func (c *Control) applyBatch(batch Batch) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range batch.Records {
		if r.Value != nil && len(r.Value) <= maxControlRecord {
			c.set(string(r.Key), bytes.Clone(r.Value))
		}
	}
	c.next = max(c.next, batch.Next)
	close(c.changed)
	c.changed = make(chan struct{})
}

// save writes the cache, for its owner alone: it holds secrets. Failing to costs no more than a start without the log.
func (c *Control) save(namespace string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	cache := cacheFile{V: controlVersion, Namespace: namespace, Topic: hex.EncodeToString(c.topic[:]), Next: c.next, Records: c.records}
	text, err := cache.seal()
	if err == nil && c.file != "" && !bytes.Equal(text, c.cacheText) {
		err = ReplaceFile(c.file, text)
	}
	if err != nil {
		c.log.Warn().Err(err).Msg("the copy of the control topic can't be written")
		return
	}
	c.cacheText = text
}

// adopt takes the control topic for the namespace's, and says where reading it goes on.
func (c *Control) adopt(topic [16]byte, start int64) (next int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.topic = topic
	// Compaction keeps the last record of each key, so starting late misses nothing.
	c.next = max(c.next, start)
	return c.next
}

// readControl reads the control topic, from where the copy ends to the end that it has now.
func (l *Log) readControl(ctx context.Context, id [16]byte) error {
	all, err := l.bounds(ctx, l.controls)
	if err != nil {
		return err
	}
	if from := l.control.adopt(id, all[0].Start); from > all[0].End {
		return fmt.Errorf("topic %s ends at %d, but was read to %d before: it has lost records", l.controls, all[0].End, from)
	}
	return l.readControlTo(ctx, all[0].End)
}

// readControlTo reads the control topic up to an offset, while nobody follows it.
func (l *Log) readControlTo(ctx context.Context, end int64) error {
	c := l.control
	if at := c.position(); at < end {
		s, err := l.consumer.open(l.controls, 0, at, -1)
		if err != nil {
			return err
		}
		defer s.Close()
		for at < end {
			wait, cancel := context.WithTimeout(ctx, requestTimeout)
			batch, err := s.Next(wait)
			cancel()
			if err != nil {
				return fmt.Errorf("read topic %s: %w", l.controls, err)
			}
			c.applyBatch(batch)
			at = c.position()
		}
	}
	c.save(l.opts.Namespace)
	return nil
}

// position is the offset to read next.
func (c *Control) position() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.next
}

// followControl reads what is added to the control topic.
func (l *Log) followControl() {
	for l.ctx.Err() == nil {
		s, err := l.consumer.open(l.controls, 0, l.control.position(), -1)
		if err == nil {
			err = l.follow(s)
			s.Close()
		}
		if l.Status().Fault != nil || l.ctx.Err() != nil {
			return
		}
		l.log.Warn().Err(err).Msg("control topic: reading begins anew")
		if !l.sleep(lastRetry) {
			return
		}
	}
}

// follow returns the error that ended the stream.
func (l *Log) follow(s *Stream) error {
	for {
		batch, err := s.Next(l.ctx)
		if err != nil {
			return err
		}
		before, _ := l.control.namespace()
		l.control.applyBatch(batch)
		if after, _ := l.control.namespace(); after != before {
			// What the namespace is was decided once; whoever says otherwise speaks of another one.
			err := mismatchedID(l.mutations, before.TopicID, after.TopicID)
			l.setFault(err)
			return err
		}
		l.control.save(l.opts.Namespace)
	}
}

// PutControl sets a key of the control topic, and returns when this node has read it back. The errors are Publish's.
func (l *Log) PutControl(ctx context.Context, key string, value []byte) error {
	if err := l.usable(); err != nil {
		return fmt.Errorf("control topic: %w: %w", ErrRefused, err)
	}
	if len(value) > maxControlRecord {
		return fmt.Errorf("control topic: %w: %d octets, at most %d", ErrTooLarge, len(value), maxControlRecord)
	}
	if len(value) == 0 {
		return fmt.Errorf("control topic: %w: a record is replaced, never deleted", ErrRefused)
	}
	offset, err := l.send(ctx, l.controls, 0, []byte(key), value)
	if err != nil {
		return fmt.Errorf("control topic: %w", err)
	}
	for {
		changed := l.control.Changed()
		if l.control.position() > offset {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("control topic: written at %d, not read back: %w: %w", offset, ErrUnknown, ctx.Err())
		}
	}
}

// putAndRead is PutControl for the time before the log is established, when nobody follows the topic yet.
func (l *Log) putAndRead(ctx context.Context, key string, record any) error {
	value, err := json.Marshal(record)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, l.opts.DeliveryTimeout+time.Second)
	defer cancel()
	offset, err := l.send(ctx, l.controls, 0, []byte(key), value)
	if err != nil {
		return fmt.Errorf("control topic: %w", err)
	}
	return l.readControlTo(ctx, offset+1)
}

// recordNamespace says what the namespace is. Of several first nodes, the last to say it counts; as there is one
// topic, they say the same.
func (l *Log) recordNamespace(ctx context.Context, mutations topic) error {
	l.log.Info().Str("topic", l.mutations).Int32("partitions", mutations.partitions).Msg("a new namespace")
	return l.putAndRead(ctx, namespaceKey, namespaceRecord{
		V: controlVersion, Topic: hex.EncodeToString(mutations.id[:]), Partitions: mutations.partitions,
	})
}
