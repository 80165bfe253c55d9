package admin

import (
	"context"
	"errors"
	"net/http"
	"time"

	"balefire/replication"
	"balefire/store"
)

// Groups is what is known of, and done to, the namespace's replica groups.
type Groups interface {
	// Reached says of each group whether it has the record at a position.
	Reached(ctx context.Context, at store.Position) ([]replication.Reach, error)
	Groups(ctx context.Context) ([]replication.GroupInfo, error)
	// RetireGroup forgets a group: nothing waits for it any more. replication.ErrGroupInUse: it still has nodes.
	RetireGroup(ctx context.Context, region, group string) error
}

// clusterView is ClusterStatus as the API shows it.
type clusterView struct {
	Namespace  string      `json:"namespace"`
	Partitions int32       `json:"partitions"`
	Node       string      `json:"node"`
	Region     string      `json:"region"`
	Group      string      `json:"group"`
	Log        logView     `json:"log"`
	Groups     []groupView `json:"groups"`
	Nodes      []nodeView  `json:"nodes"`
	Alarms     []alarmView `json:"alarms"`
	Troubles   []string    `json:"troubles,omitempty"`
}

type logView struct {
	Embedded    bool     `json:"embedded"`
	Established bool     `json:"established"`
	Reachable   bool     `json:"reachable"`
	Fault       string   `json:"fault,omitempty"`
	Trying      string   `json:"trying,omitempty"`
	Complaints  []string `json:"complaints,omitempty"`
	Frozen      string   `json:"frozen,omitempty"`
}

type groupView struct {
	Region     string               `json:"region"`
	Group      string               `json:"group"`
	Registered *time.Time           `json:"registered,omitempty"`
	Partitions []groupPartitionView `json:"partitions"`
	Error      string               `json:"error,omitempty"`
}

type groupPartitionView struct {
	Partition int32      `json:"partition"`
	Applied   int64      `json:"applied"`
	Lag       int64      `json:"lag"`
	Behind    float64    `json:"behind_seconds"`
	Committed *time.Time `json:"committed,omitempty"`
	Node      string     `json:"node,omitempty"`
}

type nodeView struct {
	ID         string              `json:"id"`
	Region     string              `json:"region"`
	Group      string              `json:"group"`
	Version    string              `json:"version,omitempty"`
	DNS        string              `json:"dns,omitempty"`
	Admin      string              `json:"admin,omitempty"`
	Relay      string              `json:"relay,omitempty"`
	Alive      bool                `json:"alive"`
	Ready      bool                `json:"ready"`
	Draining   bool                `json:"draining"`
	Seen       *time.Time          `json:"seen,omitempty"`
	Reasons    []string            `json:"reasons,omitempty"`
	Partitions []nodePartitionView `json:"partitions"`
}

type nodePartitionView struct {
	Partition int32  `json:"partition"`
	State     string `json:"state"`
	Position  int64  `json:"position"`
	Assigned  bool   `json:"assigned"`
	Trouble   string `json:"trouble,omitempty"`
}

type alarmView struct {
	Partition *int32    `json:"partition,omitempty"`
	Zone      string    `json:"zone,omitempty"`
	Error     string    `json:"error"`
	Time      time.Time `json:"time"`
}

// reachView says whether a group has a change.
type reachView struct {
	Region  string     `json:"region"`
	Group   string     `json:"group"`
	Applied bool       `json:"applied"`
	Since   *time.Time `json:"since,omitempty"`
	Lag     int64      `json:"lag,omitempty"`
	Behind  float64    `json:"behind_seconds,omitempty"`
	Error   string     `json:"error,omitempty"`
}

func showReach(reached []replication.Reach) []reachView {
	views := make([]reachView, len(reached))
	for i, r := range reached {
		views[i] = reachView{
			Region: r.Region, Group: r.Group, Applied: r.Applied, Since: timeOrNil(r.Since),
			Lag: r.Lag, Behind: r.Behind.Seconds(), Error: r.Err,
		}
	}
	return views
}

func timeOrNil(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// statusPatience bounds what is asked of the log and of other nodes for an answer that says how things are.
const statusPatience = 5 * time.Second

// getCluster says what this node knows of its namespace.
func (s *Server) getCluster(w http.ResponseWriter, r *http.Request) error {
	if _, err := queryOf(r); err != nil {
		return err
	}
	if s.opts.Status == nil {
		return notKnown("this server does not know its cluster")
	}
	ctx, cancel := contextWithin(r, statusPatience)
	defer cancel()
	status, err := s.opts.Status(ctx)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, showCluster(status))
}

func showCluster(c replication.ClusterStatus) clusterView {
	v := clusterView{
		Namespace: c.Namespace, Partitions: c.Partitions, Node: c.Node, Region: c.Region, Group: c.Group,
		Log: logView(c.Log), Groups: make([]groupView, len(c.Groups)), Nodes: make([]nodeView, len(c.Nodes)), Alarms: make([]alarmView, len(c.Alarms)),
		Troubles: c.Troubles,
	}
	for i, g := range c.Groups {
		partitions := make([]groupPartitionView, len(g.Partitions))
		for i, p := range g.Partitions {
			partitions[i] = groupPartitionView{
				Partition: p.Partition, Applied: p.Applied, Lag: p.Lag, Behind: p.Behind.Seconds(), Committed: timeOrNil(p.Committed), Node: p.Node,
			}
		}
		v.Groups[i] = groupView{Region: g.Region, Group: g.Group, Registered: timeOrNil(g.Registered), Partitions: partitions, Error: g.Err}
	}
	for i, n := range c.Nodes {
		partitions := make([]nodePartitionView, len(n.Partitions))
		for i, p := range n.Partitions {
			partitions[i] = nodePartitionView(p)
		}
		v.Nodes[i] = nodeView{
			ID: n.ID, Region: n.Region, Group: n.Group, Version: n.Version, DNS: n.DNS, Admin: n.Admin, Relay: n.Relay,
			Alive: n.Alive, Ready: n.Ready, Draining: n.Draining, Seen: timeOrNil(n.Seen), Reasons: n.Reasons, Partitions: partitions,
		}
	}
	for i, a := range c.Alarms {
		v.Alarms[i] = alarmView{Error: a.Err.Error(), Time: a.Time}
		if a.Partition >= 0 {
			v.Alarms[i].Partition = &a.Partition
		}
		if a.Zone != "" {
			v.Alarms[i].Zone = a.Zone.String()
		}
	}
	return v
}

// notKnown is a problem of what this server is not made to tell.
func notKnown(format string, args ...any) *problem {
	return newProblem(http.StatusNotImplemented, "not-known", format, args...)
}

// groups returns what knows the replica groups, or the problem that nothing does.
func (s *Server) groups() (Groups, error) {
	if s.opts.Groups == nil {
		return nil, notKnown("this node knows nothing of replica groups other than its own")
	}
	return s.opts.Groups, nil
}

// getGroups lists the registered replica groups.
func (s *Server) getGroups(w http.ResponseWriter, r *http.Request) error {
	if _, err := queryOf(r); err != nil {
		return err
	}
	known, err := s.groups()
	if err != nil {
		return err
	}
	ctx, cancel := contextWithin(r, statusPatience)
	defer cancel()
	list, err := known.Groups(ctx)
	if err != nil {
		return fromLog(err)
	}
	type groupInfo struct {
		Region     string     `json:"region"`
		Group      string     `json:"group"`
		Registered *time.Time `json:"registered,omitempty"`
		Members    *int       `json:"members,omitempty"`
	}
	shown := make([]groupInfo, len(list))
	for i, g := range list {
		shown[i] = groupInfo{Region: g.Region, Group: g.Group, Registered: timeOrNil(g.Registered)}
		if g.Members >= 0 {
			shown[i].Members = &g.Members
		}
	}
	return writeJSON(w, http.StatusOK, struct {
		Groups []groupInfo `json:"groups"`
	}{shown})
}

// deleteGroup retires a replica group.
func (s *Server) deleteGroup(w http.ResponseWriter, r *http.Request) error {
	if _, err := queryOf(r); err != nil {
		return err
	}
	known, err := s.groups()
	if err != nil {
		return err
	}
	ctx, cancel := contextWithin(r, s.opts.Limits.PublishTimeout)
	defer cancel()
	err = known.RetireGroup(ctx, r.PathValue("region"), r.PathValue("group"))
	if errors.Is(err, replication.ErrGroupInUse) {
		return newProblem(http.StatusConflict, "rejected", "%v", err)
	}
	if err != nil {
		return fromLog(err)
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// fromLog is the problem of what could not be learned from, or told to, the log; it may pass.
func fromLog(err error) error {
	var p *problem
	if errors.As(err, &p) {
		return err
	}
	p = newProblem(http.StatusServiceUnavailable, "log-unavailable", "%v", err)
	p.retryAfter, p.cause = 5, err
	return p
}
