package mutationlog

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
)

// A replica group is one full copy of the namespace in a region, and a consumer group of the brokers'. Those that count for
// "applied everywhere" are in the control topic, under group/REGION/GROUP: a group that is away for a while is still waited
// for, one that is gone for good is retired by command.
const groupPrefix = "group/"

// ErrGroupInUse means that a replica group has members, and so can't be retired.
var ErrGroupInUse = errors.New("the replica group has members")

// ErrNoGroup means that a replica group was never registered.
var ErrNoGroup = errors.New("no such replica group")

// Group is a replica group.
type Group struct {
	Region, Group string
	// Registered is when it was, in UTC, to the second.
	Registered time.Time
}

// Member is a node of a replica group that the brokers know of.
type Member struct {
	ID   string // the node's own, where it has one, otherwise the brokers'
	Host string // where it connects from
}

// groupRecord is a value of the control topic.
type groupRecord struct {
	V          int       `json:"v"`
	Region     string    `json:"region"`
	Group      string    `json:"group"`
	Registered time.Time `json:"registered"`
	Retired    bool      `json:"retired"`
}

var (
	// A region has no dot, so that it is known where it ends in the name of a consumer group.
	regionPattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$`)
	groupPattern  = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)
)

// GroupName returns the name of a replica group's consumer group.
func (l *Log) GroupName(region, group string) string {
	return l.opts.Namespace + "." + region + "." + group
}

func groupKey(region, group string) string { return groupPrefix + region + "/" + group }

// parseGroup reads the value of a key of the control topic.
func parseGroup(key string, value []byte) (groupRecord, error) {
	var r groupRecord
	if err := json.Unmarshal(value, &r); err != nil {
		return r, err
	}
	if r.V != controlVersion {
		return r, fmt.Errorf("version %d is not known here", r.V)
	}
	if key != groupKey(r.Region, r.Group) || !regionPattern.MatchString(r.Region) || !groupPattern.MatchString(r.Group) {
		return r, fmt.Errorf("its key is %q, but it is of region %q and group %q", key, r.Region, r.Group)
	}
	r.Registered = r.Registered.UTC().Truncate(time.Second)
	return r, nil
}

// Groups returns the replica groups that are registered and not retired, by region and name. Control().Changed() tells when
// to ask again.
func (l *Log) Groups() []Group {
	l.control.mu.Lock()
	defer l.control.mu.Unlock()
	var groups []Group
	for _, r := range l.control.groups {
		if !r.Retired {
			groups = append(groups, Group{Region: r.Region, Group: r.Group, Registered: r.Registered})
		}
	}
	slices.SortFunc(groups, func(a, b Group) int {
		return cmp.Or(strings.Compare(a.Region, b.Region), strings.Compare(a.Group, b.Group))
	})
	return groups
}

// group returns what the control topic has of a group. A record that this program does not know is an error: it must not be
// written over.
func (l *Log) group(region, group string) (r groupRecord, known bool, err error) {
	key := groupKey(region, group)
	value, ok := l.control.Get(key)
	if !ok {
		return r, false, nil
	}
	if r, err = parseGroup(key, value); err != nil {
		return r, false, fmt.Errorf("control topic: %s: %w", key, err)
	}
	return r, true, nil
}

// RegisterGroup makes a replica group known, so that it counts. Each node does it with its own, once the log is established;
// for one that is registered nothing is written. One that was retired is registered again. The errors are Publish's.
func (l *Log) RegisterGroup(ctx context.Context, region, group string) error {
	failed := func(err error) error {
		return fmt.Errorf("register group %s of region %s: %w", group, region, err)
	}
	if !regionPattern.MatchString(region) || !groupPattern.MatchString(group) {
		return failed(fmt.Errorf("%w: a region is letters, digits, - and _, a group can have dots too, both at most 64", ErrRefused))
	}
	if err := l.usable(); err != nil {
		return failed(fmt.Errorf("%w: %w", ErrRefused, err))
	}
	have, known, err := l.group(region, group)
	if err != nil {
		return failed(fmt.Errorf("%w: %w", ErrRefused, err))
	}
	if known && !have.Retired {
		return nil
	}
	record := groupRecord{V: controlVersion, Region: region, Group: group, Registered: time.Now().UTC().Truncate(time.Second)}
	if err := l.putGroup(ctx, record); err != nil {
		return failed(err)
	}
	return nil
}

// RetireGroup makes a replica group count no more. One that has members is in use: ErrGroupInUse names them. What the group
// has committed is left to expire.
func (l *Log) RetireGroup(ctx context.Context, region, group string) error {
	failed := func(err error) error {
		return fmt.Errorf("retire group %s of region %s: %w", group, region, err)
	}
	if err := l.usable(); err != nil {
		return failed(fmt.Errorf("%w: %w", ErrRefused, err))
	}
	record, known, err := l.group(region, group)
	if err != nil {
		return failed(fmt.Errorf("%w: %w", ErrRefused, err))
	}
	if !known {
		return failed(fmt.Errorf("%w: %w", ErrRefused, ErrNoGroup))
	}
	if record.Retired {
		return nil
	}
	members, err := l.Members(ctx, region, group)
	if err != nil {
		return failed(fmt.Errorf("%w: %w", ErrRefused, err))
	}
	if len(members) > 0 {
		var names []string
		for _, m := range members {
			names = append(names, m.ID+" at "+m.Host)
		}
		return failed(fmt.Errorf("%w: %w: %s", ErrRefused, ErrGroupInUse, strings.Join(names, ", ")))
	}
	record.Retired = true
	if err := l.putGroup(ctx, record); err != nil {
		return failed(err)
	}
	return nil
}

func (l *Log) putGroup(ctx context.Context, record groupRecord) error {
	value, err := json.Marshal(record)
	if err != nil {
		return err
	}
	return l.PutControl(ctx, groupKey(record.Region, record.Group), value)
}

// Members asks the brokers who is in a replica group. One that they do not know has none.
func (l *Log) Members(ctx context.Context, region, group string) ([]Member, error) {
	if err := l.usable(); err != nil {
		return nil, fmt.Errorf("members of group %s of region %s: %w", group, region, err)
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	members, err := l.members(ctx, l.GroupName(region, group))
	if err != nil {
		return nil, fmt.Errorf("members of group %s of region %s: %w", group, region, explain(err))
	}
	return members, nil
}

func (l *Log) members(ctx context.Context, name string) (members []Member, err error) {
	described, err := l.admin.DescribeGroups(ctx, name)
	classic := described[name]
	if err == nil {
		err = classic.Err
	}
	// Brokers know a group by one protocol only. Those that know KIP-848 say that they do not find a group of that protocol by
	// the classic one, or that it is neither empty nor has members; others can't be asked.
	odd := len(classic.Members) == 0 && classic.State != "Empty" && classic.State != "Dead"
	if errors.Is(err, kerr.GroupIDNotFound) || err == nil && odd {
		return l.membersOfConsumerGroup(ctx, name)
	}
	if err != nil {
		return nil, err
	}
	for _, m := range classic.Members {
		members = append(members, member(m.InstanceID, m.MemberID, m.ClientHost))
	}
	return members, nil
}

func (l *Log) membersOfConsumerGroup(ctx context.Context, name string) (members []Member, err error) {
	groups, err := l.admin.DescribeConsumerGroups(ctx, name)
	if err == nil {
		err = groups[name].Err
	}
	if errors.Is(err, kerr.GroupIDNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	for _, m := range groups[name].Members {
		members = append(members, member(m.InstanceID, m.MemberID, m.ClientHost))
	}
	return members, nil
}

func member(instance *string, id, host string) Member {
	if instance != nil && *instance != "" {
		id = *instance
	}
	return Member{ID: id, Host: strings.TrimPrefix(host, "/")} // Java writes a slash before an address
}
