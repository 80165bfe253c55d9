// Package assignment says which partitions of the mutations topic a node has been given by its replica group, which is a
// consumer group. It does nothing else: what is consumed, from where and when, is the node's own doing, and no record is
// ever fetched by the client here.
//
// What it doesn't know: what a partition is, and whether the node has it.
//
// Invariants:
//
//   - What was given stays given until the group says otherwise: across restarts, by a file, and while the group can't be
//     reached. A client loses every partition two seconds after its broker closes; that is not the group's word.
//   - A node is a static member by its id: a restart moves nothing, and leaves nothing.
//   - Two processes with one id take turns no oftener than once a minute, and say so.
package assignment

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// The protocols by which brokers spread partitions.
const (
	// Classic is cooperative-sticky, worked out by a member: every Kafka and Redpanda has it.
	Classic = "classic"
	// Consumer is KIP-848, worked out by the broker: Kafka 4. Brokers without it are spoken to by Classic.
	Consumer = "consumer"
)

const (
	// defaultSession is the largest that Redpanda takes by default.
	defaultSession = 30 * time.Second
	maxBackoff     = 5 * time.Second
	// fencedWait is how long a node stays out of the group after another process has taken its place.
	fencedWait = time.Minute
	// releaseTime is how long a process that ends tries to tell the group.
	releaseTime = 3 * time.Second
)

// Epochs by which members say that they are going.
const (
	goingForGood = -1
	goingForNow  = -2
)

// Options say which group, and who joins it.
type Options struct {
	// Client are the options with which a client reaches the brokers.
	Client []kgo.Opt
	// Topic is the topic whose partitions are spread, TopicID what it must still be for File to count.
	Topic   string
	TopicID [16]byte
	Group   string
	// Instance is the node's id: who joins the group under it takes the place of who was there before.
	Instance string
	// Protocol is Classic or Consumer; "" means Classic.
	Protocol string
	// File is where the assignment is kept for the next start; "" means nowhere. Its folder exists.
	File string
	// SessionTimeout is how long a node may be away before its partitions go to others; 0 means 30 s. With Consumer
	// the broker decides.
	SessionTimeout time.Duration
	Logger         zerolog.Logger

	fencedWait time.Duration // 0 means the constant; tests wait for less
}

// Assignment is a node's part in its group. Its methods may be used from many goroutines.
type Assignment struct {
	opts   Options
	log    zerolog.Logger
	ctx    context.Context
	cancel context.CancelFunc
	done   sync.WaitGroup

	mu      sync.Mutex
	client  *kgo.Client    // nil while out of the group
	given   map[int32]bool // never changed, only replaced
	fresh   bool           // given is what the group says now
	claimed map[int32]bool // what this node last joined as having, when the client did not know
	changed chan struct{}  // closed at the next change
	member  string         // by Consumer: who this node was in the group, once it is out
	fault   error
	trying  error
	fenced  chan struct{} // capacity 1: another process has taken this one's place
}

// Status is how the node stands with its group.
type Status struct {
	// Joined: the group has said what is given, and nothing has gone wrong since.
	Joined bool
	// Fault is something that people must put right: another process has this node's id, the group uses another protocol. It is
	// for the caller to say so: the client tries, and fails, all the time.
	Fault error
	// Trying is why the group can't be reached just now.
	Trying error
}

// Committed is how far a node is with a partition, for everyone to see.
type Committed struct {
	Partition   int32
	Next        int64 // the offset after the last applied
	LeaderEpoch int32
	Metadata    string
}

// ErrNotGiven means that the group has not given the partition to this node, or not in this process yet.
var ErrNotGiven = errors.New("the partition is not given to this node")

// Open joins the group, without waiting for it. The error is about the options.
func Open(opts Options) (*Assignment, error) {
	if opts.Topic == "" || opts.Group == "" || opts.Instance == "" {
		return nil, errors.New("assignment: a topic, a group and an id are needed")
	}
	if opts.SessionTimeout == 0 {
		opts.SessionTimeout = defaultSession
	}
	if opts.fencedWait == 0 {
		opts.fencedWait = fencedWait
	}
	if opts.Protocol == "" {
		opts.Protocol = Classic
	}
	if opts.Protocol != Classic && opts.Protocol != Consumer {
		return nil, fmt.Errorf("assignment: protocol %q: want %s or %s", opts.Protocol, Classic, Consumer)
	}
	a := &Assignment{
		opts: opts, log: opts.Logger, given: make(map[int32]bool),
		changed: make(chan struct{}), fenced: make(chan struct{}, 1),
	}
	if opts.File != "" {
		given, err := readFile(opts.File, opts.TopicID, opts.Group)
		if err != nil {
			a.log.Warn().Err(err).Msg("what the group gave to this node before is not known")
		}
		for _, p := range given {
			a.given[p] = true
		}
	}
	a.ctx, a.cancel = context.WithCancel(context.Background())
	client, err := a.join()
	if err != nil {
		a.cancel()
		return nil, fmt.Errorf("assignment: %w", err)
	}
	a.done.Go(func() { a.run(client) })
	return a, nil
}

// join makes a client, which joins by itself.
func (a *Assignment) join() (*kgo.Client, error) {
	o := a.opts
	options := append(slices.Clone(o.Client),
		kgo.ConsumerGroup(o.Group),
		kgo.ConsumeTopics(o.Topic),
		kgo.InstanceID(o.Instance),
		kgo.Balancers(claiming{kgo.CooperativeStickyBalancer(), a}),
		kgo.SessionTimeout(o.SessionTimeout),
		kgo.HeartbeatInterval(min(3*time.Second, o.SessionTimeout/4)),
		kgo.RebalanceTimeout(max(o.SessionTimeout, 10*time.Second)),
		kgo.DisableAutoCommit(),
		kgo.RetryBackoffFn(backoff),
		kgo.OnPartitionsAssigned(a.assigned),
		kgo.OnPartitionsRevoked(a.revoked),
		kgo.OnPartitionsLost(a.lost),
		kgo.WithHooks(groupErrors{a}),
		// Nothing is fetched, so that it does not matter from where: but nobody is asked, and nothing reset.
		kgo.AdjustFetchOffsetsFn(fromAnywhere),
	)
	if o.Protocol == Consumer {
		// The broker remembers who had what. The client asks it only with a balancer that it knows.
		options = append(options, kgo.ServerSideBalancer(), kgo.Balancers(kgo.CooperativeStickyBalancer()))
	}
	a.mu.Lock() // the client calls back at once
	defer a.mu.Unlock()
	client, err := kgo.NewClient(options...)
	if err != nil {
		return nil, err
	}
	client.PauseFetchTopics(o.Topic)
	a.client = client
	return client, nil
}

func backoff(failures int) time.Duration {
	most := min(maxBackoff, 100*time.Millisecond<<min(failures, 10))
	return most/2 + rand.N(most/2)
}

func fromAnywhere(_ context.Context, fetched map[string]map[int32]kgo.Offset) (map[string]map[int32]kgo.Offset, error) {
	for _, partitions := range fetched {
		for p := range partitions {
			partitions[p] = kgo.NewOffset().At(0)
		}
	}
	return fetched, nil
}

// run keeps the client in the group, and stays out of it for a while when another process takes its place.
func (a *Assignment) run(client *kgo.Client) {
	for {
		out := make(chan struct{})
		go func() {
			defer close(out)
			a.drain(client)
		}()
		fenced := false
		select {
		case <-a.fenced:
			fenced = true
		case <-a.ctx.Done():
		}
		a.mu.Lock()
		a.client, a.fresh = nil, false
		a.mu.Unlock()
		a.release(client)
		<-out
		if !fenced {
			return
		}
		for {
			select {
			case <-time.After(a.opts.fencedWait + rand.N(a.opts.fencedWait/4)):
			case <-a.ctx.Done():
				return
			}
			var err error
			if client, err = a.join(); err == nil {
				break
			}
			a.log.Error().Err(err).Msg("joining the replica group again")
		}
	}
}

// release ends a client. To a broker that spreads the partitions itself it says that this process is going and its node
// is not: otherwise the next process of the node would be kept out until the session ends. The client tries to, but leaves out
// the id of the node, and the broker does not take that.
func (a *Assignment) release(client *kgo.Client) {
	ctx, cancel := context.WithTimeout(context.Background(), releaseTime)
	defer cancel()
	member, _ := client.GroupMetadata()
	err := client.LeaveGroupContext(ctx)
	if a.opts.Protocol == Consumer && member != "" {
		a.mu.Lock()
		a.member = member
		a.mu.Unlock()
		err = a.say(ctx, client, member, goingForNow)
	}
	if err != nil && !errors.Is(err, context.Canceled) {
		a.log.Info().Err(err).Msg("leaving the replica group for now")
	}
	client.Close()
}

// say sends a last word of a member of a group whose partitions the broker spreads.
func (a *Assignment) say(ctx context.Context, client *kgo.Client, member string, epoch int32) error {
	request := kmsg.NewPtrConsumerGroupHeartbeatRequest()
	request.Group, request.MemberID, request.MemberEpoch, request.InstanceID = a.opts.Group, member, epoch, &a.opts.Instance
	response, err := request.RequestWith(ctx, client)
	if err != nil {
		return err
	}
	return kerr.ErrorForCode(response.ErrorCode)
}

// drain takes what the client has to say beside its callbacks, until it is closed. There are no records.
func (a *Assignment) drain(client *kgo.Client) {
	for {
		fetches := client.PollFetches(a.ctx)
		if fetches.IsClientClosed() || a.ctx.Err() != nil {
			return
		}
	}
}

// assigned is called by the client when the group has said what is given: what is new, or all after everything was lost.
func (a *Assignment) assigned(_ context.Context, client *kgo.Client, added map[string][]int32) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.client != client {
		return
	}
	next := make(map[int32]bool)
	if a.fresh {
		maps.Copy(next, a.given)
	}
	for _, p := range added[a.opts.Topic] {
		next[p] = true
	}
	first := !a.fresh
	if first && a.refused(next) {
		client.ForceRebalance()
	}
	a.claimed = nil
	a.fresh, a.fault, a.trying = true, nil, nil
	if !maps.Equal(next, a.given) || first {
		a.give(next)
	}
}

// revoked is called by the client when the group gives partitions to others. A client that is being closed calls it,
// too, which means nothing: by then it is not this node's any more.
func (a *Assignment) revoked(_ context.Context, client *kgo.Client, gone map[string][]int32) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.client != client || !a.fresh || len(gone[a.opts.Topic]) == 0 {
		return
	}
	next := maps.Clone(a.given)
	for _, p := range gone[a.opts.Topic] {
		delete(next, p)
	}
	a.give(next)
}

// lost is called by the client when it can't reach the group, or is not in it any more. What was given stays so, until the
// group has been heard again.
func (a *Assignment) lost(_ context.Context, client *kgo.Client, _ map[string][]int32) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.client == client {
		a.fresh = false
	}
}

// give takes over what is given, for now and for the next start; a.mu is held.
func (a *Assignment) give(next map[int32]bool) {
	a.given = next
	if a.opts.File != "" {
		if err := writeFile(a.opts.File, a.opts.TopicID, a.opts.Group, sorted(next)); err != nil {
			a.log.Warn().Err(err).Msg("what the group gave to this node can't be kept for the next start")
		}
	}
	close(a.changed)
	a.changed = make(chan struct{})
}

func sorted(given map[int32]bool) []int32 { return slices.Sorted(maps.Keys(given)) }

// groupErrors is told of what throws the client out of the group.
type groupErrors struct{ a *Assignment }

var _ kgo.HookGroupManageError = groupErrors{}

func (h groupErrors) OnGroupManageError(err error) {
	a := h.a
	a.mu.Lock()
	defer a.mu.Unlock()
	a.fresh = false
	switch {
	case errors.Is(err, kerr.FencedInstanceID), errors.Is(err, kerr.UnreleasedInstanceID):
		a.fault = fmt.Errorf("another process is in group %s as %s: two nodes have one id, or an earlier process of this node is not dead yet; "+
			"give each node a node-id of its own: %w", a.opts.Group, a.opts.Instance, err)
		if errors.Is(err, kerr.FencedInstanceID) {
			select {
			case a.fenced <- struct{}{}:
			default:
			}
		}
	case errors.Is(err, kerr.InconsistentGroupProtocol), errors.Is(err, kerr.GroupIDNotFound), errors.Is(err, kerr.UnsupportedAssignor):
		a.fault = fmt.Errorf("group %s is of another protocol than %s, or has other assignors: give all its nodes the same kafka.group-protocol: %w",
			a.opts.Group, a.opts.Protocol, err)
	default:
		a.trying = fmt.Errorf("group %s: %w", a.opts.Group, err)
	}
}

// Current returns the partitions that are given to this node, in order. fresh says that the group has said so, and that
// this node is in it; otherwise it is what the group said last.
func (a *Assignment) Current() (partitions []int32, fresh bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return sorted(a.given), a.fresh
}

// Changed returns a channel that is closed at the next change of Current.
func (a *Assignment) Changed() <-chan struct{} {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.changed
}

// Status returns how the node stands with its group.
func (a *Assignment) Status() Status {
	a.mu.Lock()
	defer a.mu.Unlock()
	return Status{Joined: a.fresh, Fault: a.fault, Trying: a.trying}
}

// Commit tells the group how far this node is. Of a partition that is not given to it, it is ErrNotGiven, and nothing is
// committed.
func (a *Assignment) Commit(ctx context.Context, all []Committed) error {
	if len(all) == 0 {
		return nil
	}
	a.mu.Lock()
	client, given, fresh := a.client, a.given, a.fresh
	a.mu.Unlock()
	if client == nil || !fresh {
		return fmt.Errorf("commit: %w: it is not in its group just now", ErrNotGiven)
	}
	offsets := make(map[int32]kgo.EpochOffset, len(all))
	metadata := make(map[int32]string, len(all))
	for _, c := range all {
		if !given[c.Partition] {
			return fmt.Errorf("commit of partition %d: %w", c.Partition, ErrNotGiven)
		}
		offsets[c.Partition] = kgo.EpochOffset{Epoch: c.LeaderEpoch, Offset: c.Next}
		metadata[c.Partition] = c.Metadata
	}
	ctx = kgo.PreCommitFnContext(ctx, func(r *kmsg.OffsetCommitRequest) error {
		for i := range r.Topics {
			for j := range r.Topics[i].Partitions {
				p := &r.Topics[i].Partitions[j]
				text := metadata[p.Partition]
				p.Metadata = &text
			}
		}
		return nil
	})
	var failed error
	client.CommitOffsetsSync(ctx, map[string]map[int32]kgo.EpochOffset{a.opts.Topic: offsets},
		func(_ *kgo.Client, _ *kmsg.OffsetCommitRequest, response *kmsg.OffsetCommitResponse, err error) {
			failed = err
			if err != nil {
				return
			}
			for _, t := range response.Topics {
				for _, p := range t.Partitions {
					if err := kerr.ErrorForCode(p.ErrorCode); err != nil && failed == nil {
						failed = fmt.Errorf("partition %d: %w", p.Partition, err)
					}
				}
			}
		})
	if failed != nil {
		return fmt.Errorf("commit: %w", failed)
	}
	return nil
}

// Leave closes, and takes this node out of its group for good, so that its partitions go to others at once: from then on
// nothing is given to it.
func (a *Assignment) Leave(ctx context.Context) error {
	if err := a.Close(); err != nil { // or it would join again
		return err
	}
	client, err := kgo.NewClient(a.opts.Client...)
	if err != nil {
		return fmt.Errorf("leave group %s: %w", a.opts.Group, err)
	}
	defer client.Close()
	a.mu.Lock()
	member := a.member
	a.mu.Unlock()
	if member != "" {
		err = a.say(ctx, client, member, goingForGood)
	}
	if member == "" || errors.Is(err, kerr.UnsupportedVersion) || errors.Is(err, kerr.GroupIDNotFound) {
		var left kadm.LeaveGroupResponses
		left, err = kadm.NewClient(client).LeaveGroup(ctx, kadm.LeaveGroup(a.opts.Group).InstanceIDs(a.opts.Instance).Reason("the node goes away"))
		if err == nil {
			err = left.Error()
		}
	}
	if err != nil && !errors.Is(err, kerr.UnknownMemberID) {
		return fmt.Errorf("leave group %s: %w", a.opts.Group, err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.give(make(map[int32]bool))
	return nil
}

// Close ends the membership of this process, not that of the node: its partitions stay its own for SessionTimeout.
func (a *Assignment) Close() error {
	a.cancel()
	a.done.Wait()
	return nil
}
