package mutationlog

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
)

// A topic's settings, as the brokers call them.
const (
	settingCleanup    = "cleanup.policy"
	settingRetention  = "retention.ms"
	settingBytes      = "retention.bytes"
	settingInSync     = "min.insync.replicas"
	settingUnclean    = "unclean.leader.election.enable"
	settingTimestamps = "message.timestamp.type"
	settingMessage    = "max.message.bytes"
	settingSegment    = "segment.bytes"
	replication       = "replication factor" // not a setting, but complained about like one
)

// catalogSegment is the size of a segment of the catalog topic: the entries of about a million zones.
const catalogSegment = 64 << 20

// Complaint is a setting of a topic with which something that must hold does not. Nothing is changed about it here.
type Complaint struct {
	Topic, Setting, Have, Want, Why string
}

func (c Complaint) String() string {
	return fmt.Sprintf("topic %s: %s is %s, want %s: %s", c.Topic, c.Setting, c.Have, c.Want, c.Why)
}

// topic is what the brokers say of a topic.
type topic struct {
	exists      bool
	id          [16]byte
	partitions  int32
	replication int16
	err         error // why they say nothing of it
}

// topics is what the brokers say of the namespace's topics, and how many brokers there are.
type topics struct {
	mutations, control, catalog topic
	brokers                     int
}

// describeTopics asks the brokers for all topics. Trouble with the catalog's alone is left in it.
func (l *Log) describeTopics(ctx context.Context) (topics, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	names := []string{l.mutations, l.controls}
	if l.embedded == nil {
		names = append(names, l.catalogs)
	}
	m, err := l.admin.Metadata(ctx, names...)
	if err != nil {
		return topics{}, fmt.Errorf("ask for the topics: %w", err)
	}
	found := topics{brokers: len(m.Brokers)}
	found.mutations = describe(m, l.mutations)
	found.control = describe(m, l.controls)
	found.catalog = describe(m, l.catalogs)
	return found, errors.Join(found.mutations.err, found.control.err)
}

func describe(m kadm.Metadata, name string) topic {
	d, ok := m.Topics[name]
	if !ok || errors.Is(d.Err, kerr.UnknownTopicOrPartition) {
		return topic{}
	}
	if d.Err != nil {
		return topic{err: fmt.Errorf("topic %s: %w", name, d.Err)}
	}
	t := topic{exists: true, id: d.ID, partitions: int32(len(d.Partitions))}
	for _, p := range d.Partitions {
		if r := int16(len(p.Replicas)); t.replication == 0 || r < t.replication {
			t.replication = r
		}
	}
	return t
}

// establish brings the node and the log together: the topics exist, are those that the namespace has recorded, and
// the control topic has been read to its end. A crash anywhere leaves topics without a record of them, which the next
// start records.
func (l *Log) establish(ctx context.Context) error {
	found, err := l.describeTopics(ctx)
	if err != nil {
		return err
	}
	mutations, control, brokers := found.mutations, found.control, found.brokers
	if known := l.control.topicID(); known != ([16]byte{}) {
		if !control.exists {
			// Never made again: another control topic would be another namespace.
			return missing(l.controls)
		}
		if control.id != known {
			return mismatchedID(l.controls, known, control.id)
		}
	}
	if !control.exists {
		if control, err = l.create(ctx, l.controls, 1, brokers); err != nil {
			return err
		}
		l.control.adopt(control.id, 0)
	} else if err := l.readControl(ctx, control.id); err != nil {
		return err
	}
	if _, known := l.control.namespace(); !known {
		if !mutations.exists {
			if mutations, err = l.create(ctx, l.mutations, l.opts.Partitions, brokers); err != nil {
				return err
			}
		}
		if err := l.recordNamespace(ctx, mutations); err != nil {
			return err
		}
	}
	if err := l.compare(mutations); err != nil {
		return err
	}
	if len(l.CookieSecrets()) == 0 {
		if err := l.firstCookieSecrets(ctx); err != nil {
			return err
		}
	}
	if err := l.complain(ctx, mutations, control); err != nil {
		return err
	}
	l.keepCatalog(ctx, found)
	return nil
}

// verifyTopics compares the topics with what the namespace has recorded, and looks after the catalog.
func (l *Log) verifyTopics(ctx context.Context) error {
	found, err := l.describeTopics(ctx)
	if err != nil {
		return err
	}
	control := found.control
	if !control.exists {
		return missing(l.controls)
	}
	if known := l.control.topicID(); control.id != known {
		return mismatchedID(l.controls, known, control.id)
	}
	if err := l.compare(found.mutations); err != nil {
		return err
	}
	l.keepCatalog(ctx, found)
	return nil
}

func (l *Log) compare(mutations topic) error {
	ns, _ := l.control.namespace()
	switch {
	case !mutations.exists:
		return missing(l.mutations)
	case mutations.id != ns.TopicID:
		return mismatchedID(l.mutations, ns.TopicID, mutations.id)
	case mutations.partitions != ns.Partitions:
		return &MismatchError{
			Topic: l.mutations, What: "number of partitions",
			Recorded: strconv.Itoa(int(ns.Partitions)), Found: strconv.Itoa(int(mutations.partitions)),
		}
	}
	return nil
}

// missing is about a topic that was there before.
func missing(name string) error {
	return fmt.Errorf("topic %s is missing: was it deleted, or are these the brokers of another cluster?", name)
}

func mismatchedID(name string, recorded, found [16]byte) error {
	return &MismatchError{Topic: name, What: "topic id", Recorded: hex.EncodeToString(recorded[:]), Found: hex.EncodeToString(found[:])}
}

// create makes a topic with settings under which an acknowledged record stays. One that another node made meanwhile is
// an error: the next attempt sees it.
func (l *Log) create(ctx context.Context, name string, partitions int32, brokers int) (topic, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	// One of three brokers may be the first that is up: a topic that it made alone would live on it alone.
	replicas := int16(min(max(brokers, len(l.opts.Brokers)), 3))
	settings := map[string]*string{settingCleanup: value("delete"), settingRetention: value("-1"), settingBytes: value("-1")}
	switch {
	case l.embedded != nil:
		// Never compaction: the embedded broker has lost acknowledged keys to it.
		settings[settingSegment] = segmentSetting(partitions)
	default:
		settings[settingTimestamps] = value("LogAppendTime")
		settings[settingUnclean] = value("false")
		settings[settingInSync] = value(strconv.Itoa(max(1, int(replicas)-1)))
		if name != l.mutations {
			settings[settingCleanup] = value("compact")
			delete(settings, settingRetention)
			delete(settings, settingBytes)
		} else if l.opts.Retention > 0 {
			settings[settingRetention] = value(strconv.FormatInt(l.opts.Retention.Milliseconds(), 10))
		}
		if name == l.catalogs {
			// The newest segment is never compacted, and every new node reads it all.
			settings[settingSegment] = value(strconv.Itoa(catalogSegment))
		}
	}
	made, err := l.admin.CreateTopic(ctx, partitions, replicas, settings, name)
	if err != nil {
		return topic{}, fmt.Errorf("create topic %s: %w", name, err)
	}
	l.log.Info().Str("topic", name).Int32("partitions", partitions).Int16("replicas", replicas).Msg("topic created")
	if l.embedded != nil {
		if err := l.embedded.sync(); err != nil {
			return topic{}, err
		}
	}
	return topic{exists: true, id: made.ID, partitions: partitions, replication: replicas}, nil
}

func value(s string) *string { return &s }

// complain looks at the settings of the topics that must be, and keeps and logs what is unsafe about them.
func (l *Log) complain(ctx context.Context, mutations, control topic) error {
	if l.embedded != nil {
		return nil
	}
	found, err := l.examine(
		ctx,
		examined{l.mutations, mutations, "delete", l.opts.Retention},
		examined{l.controls, control, "compact", -1},
	)
	if err != nil {
		return err
	}
	l.warnOf(found)
	l.mu.Lock()
	l.complaints = found
	l.mu.Unlock()
	return nil
}

// examined is a topic whose settings are looked at, and what two of them must be; a keep below 0 is no matter.
type examined struct {
	name    string
	topic   topic
	cleanup string
	keep    time.Duration
}

// examine asks for the settings of topics and returns what is unsafe about them.
func (l *Log) examine(ctx context.Context, topics ...examined) (found []Complaint, err error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	var names []string
	for _, t := range topics {
		names = append(names, t.name)
	}
	configs, err := l.admin.DescribeTopicConfigs(ctx, names...)
	if err != nil {
		return nil, fmt.Errorf("ask for the topics' settings: %w", err)
	}
	for _, t := range topics {
		config, err := configs.On(t.name, nil)
		if err == nil {
			err = config.Err
		}
		if err != nil {
			return nil, fmt.Errorf("settings of topic %s: %w", t.name, err)
		}
		found = append(found, unsafeSettings(t.name, settingsOf(config), t.topic.replication, t.cleanup, t.keep)...)
	}
	return found, nil
}

func (l *Log) warnOf(complaints []Complaint) {
	for _, c := range complaints {
		l.log.Warn().Str("topic", c.Topic).Str("setting", c.Setting).Str("have", c.Have).Str("want", c.Want).Str("why", c.Why).Msg("unsafe topic")
	}
}

func settingsOf(config kadm.ResourceConfig) map[string]string {
	settings := make(map[string]string, len(config.Configs))
	for _, c := range config.Configs {
		settings[c.Key] = c.MaybeValue()
	}
	return settings
}

// unsafeSettings returns what is unsafe about a topic. keep is how much it must keep: 0 means all, less than 0 does not
// matter. A setting that the broker does not know is not complained about.
func unsafeSettings(name string, settings map[string]string, replicas int16, cleanup string, keep time.Duration) []Complaint {
	var found []Complaint
	add := func(setting, have, want, why string) {
		found = append(found, Complaint{Topic: name, Setting: setting, Have: have, Want: want, Why: why})
	}
	number := func(setting string) (int64, bool) {
		n, err := strconv.ParseInt(settings[setting], 10, 64)
		return n, err == nil
	}
	if replicas < 3 {
		add(replication, strconv.Itoa(int(replicas)), "3", "the loss of a broker loses acknowledged changes, or stops writes")
	}
	if have, ok := settings[settingCleanup]; ok && have != cleanup {
		why := "compaction removes changes that were not applied everywhere"
		if cleanup == "compact" {
			why = "the topic grows, or loses its only record of what is still true"
		}
		add(settingCleanup, have, cleanup, why)
	}
	if n, ok := number(settingInSync); ok && n < 2 {
		add(settingInSync, strconv.FormatInt(n, 10), "2", "a change is acknowledged when one broker has it")
	} else if ok && n >= int64(replicas) && replicas >= 3 {
		add(settingInSync, strconv.FormatInt(n, 10), "2", "the loss of one broker stops all writes")
	}
	if have, ok := settings[settingUnclean]; ok && have != "false" {
		add(settingUnclean, have, "false", "a broker that lacks acknowledged changes can become the leader")
	}
	if keep < 0 {
		return found
	}
	if n, ok := number(settingRetention); ok && n >= 0 && (keep == 0 || n < keep.Milliseconds()) {
		want := "-1"
		if keep > 0 {
			want = strconv.FormatInt(keep.Milliseconds(), 10)
		}
		add(settingRetention, strconv.FormatInt(n, 10), want, "the log forgets changes that a node may still need")
	}
	if n, ok := number(settingBytes); ok && n >= 0 {
		add(settingBytes, strconv.FormatInt(n, 10), "-1", "a burst of changes makes the log forget others that a node may still need")
	}
	if have, ok := settings[settingTimestamps]; ok && have != "LogAppendTime" {
		add(settingTimestamps, have, "LogAppendTime", "a writer with a wrong clock decides what time it is in a partition")
	}
	if n, ok := number(settingMessage); ok && n < maxBatchBytes {
		add(settingMessage, strconv.FormatInt(n, 10), strconv.Itoa(maxBatchBytes), "changes within the limits are refused")
	}
	return found
}

// noBroker is the way to a broker that does not run.
func noBroker(context.Context, string, string) (net.Conn, error) {
	return nil, ErrCorrupt
}
