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
}

// describeTopics asks the brokers for both topics, and how many brokers there are.
func (l *Log) describeTopics(ctx context.Context) (mutations, control topic, brokers int, err error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	m, err := l.admin.Metadata(ctx, l.mutations, l.controls)
	if err != nil {
		return topic{}, topic{}, 0, fmt.Errorf("ask for the topics: %w", err)
	}
	describe := func(name string) (topic, error) {
		d, ok := m.Topics[name]
		if !ok || errors.Is(d.Err, kerr.UnknownTopicOrPartition) {
			return topic{}, nil
		}
		if d.Err != nil {
			return topic{}, fmt.Errorf("topic %s: %w", name, d.Err)
		}
		t := topic{exists: true, id: d.ID, partitions: int32(len(d.Partitions))}
		for _, p := range d.Partitions {
			if r := int16(len(p.Replicas)); t.replication == 0 || r < t.replication {
				t.replication = r
			}
		}
		return t, nil
	}
	if mutations, err = describe(l.mutations); err != nil {
		return topic{}, topic{}, 0, err
	}
	if control, err = describe(l.controls); err != nil {
		return topic{}, topic{}, 0, err
	}
	return mutations, control, len(m.Brokers), nil
}

// establish brings the node and the log together: the topics exist, are those that the namespace has recorded, and
// the control topic has been read to its end. A crash anywhere leaves topics without a record of them, which the next
// start records.
func (l *Log) establish(ctx context.Context) error {
	mutations, control, brokers, err := l.describeTopics(ctx)
	if err != nil {
		return err
	}
	if known := l.control.topicID(); known != ([16]byte{}) {
		if !control.exists {
			// Never made again: another control topic would be another namespace.
			return fmt.Errorf("topic %s, which has been here, is missing", l.controls)
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
	return l.complain(ctx, mutations, control, brokers)
}

// verifyTopics compares the topics with what the namespace has recorded.
func (l *Log) verifyTopics(ctx context.Context) error {
	mutations, control, _, err := l.describeTopics(ctx)
	if err != nil {
		return err
	}
	if !control.exists {
		return fmt.Errorf("topic %s is missing", l.controls)
	}
	if known := l.control.topicID(); control.id != known {
		return mismatchedID(l.controls, known, control.id)
	}
	return l.compare(mutations)
}

func (l *Log) compare(mutations topic) error {
	ns, _ := l.control.namespace()
	switch {
	case !mutations.exists:
		return fmt.Errorf("topic %s, which the namespace has recorded, is missing", l.mutations)
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

func mismatchedID(name string, recorded, found [16]byte) error {
	return &MismatchError{Topic: name, What: "topic id", Recorded: hex.EncodeToString(recorded[:]), Found: hex.EncodeToString(found[:])}
}

// create makes a topic with settings under which an acknowledged record stays. One that another node made meanwhile is
// an error: the next attempt sees it.
func (l *Log) create(ctx context.Context, name string, partitions int32, brokers int) (topic, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	replicas := int16(min(brokers, 3))
	settings := map[string]*string{settingCleanup: value("delete"), settingRetention: value("-1"), settingBytes: value("-1")}
	switch {
	case l.embedded != nil:
		// Never compaction: the embedded broker has lost acknowledged keys to it.
		settings[settingSegment] = segmentSetting(partitions)
	default:
		settings[settingTimestamps] = value("LogAppendTime")
		settings[settingUnclean] = value("false")
		settings[settingInSync] = value(strconv.Itoa(max(1, int(replicas)-1)))
		if name == l.controls {
			settings[settingCleanup] = value("compact")
			delete(settings, settingRetention)
			delete(settings, settingBytes)
		} else if l.opts.Retention > 0 {
			settings[settingRetention] = value(strconv.FormatInt(l.opts.Retention.Milliseconds(), 10))
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

// complain looks at the settings of both topics, and keeps and logs what is unsafe about them.
func (l *Log) complain(ctx context.Context, mutations, control topic, brokers int) error {
	if l.embedded != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	configs, err := l.admin.DescribeTopicConfigs(ctx, l.mutations, l.controls)
	if err != nil {
		return fmt.Errorf("ask for the topics' settings: %w", err)
	}
	var found []Complaint
	for _, t := range []struct {
		name    string
		topic   topic
		cleanup string
		keep    time.Duration
	}{
		{l.mutations, mutations, "delete", l.opts.Retention},
		{l.controls, control, "compact", -1},
	} {
		config, err := configs.On(t.name, nil)
		if err == nil {
			err = config.Err
		}
		if err != nil {
			return fmt.Errorf("settings of topic %s: %w", t.name, err)
		}
		found = append(found, unsafeSettings(t.name, settingsOf(config), t.topic.replication, t.cleanup, t.keep)...)
	}
	for _, c := range found {
		l.log.Warn().Str("topic", c.Topic).Str("setting", c.Setting).Str("have", c.Have).Str("want", c.Want).Str("why", c.Why).Msg("unsafe topic")
	}
	l.mu.Lock()
	l.complaints = found
	l.mu.Unlock()
	return nil
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
