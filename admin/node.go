package admin

import "net/http"

// draining is the reason of a node that was told to leave: it answers all the same.
const draining = "the node is drained: send no more queries to it"

// ready says whether the node is to be sent queries, and why not.
func (s *Server) ready() (bool, []string) {
	ok, reasons := s.opts.Ready()
	if s.opts.Draining.Load() {
		return false, append(reasons, draining)
	}
	return ok, reasons
}

func (s *Server) getNode(w http.ResponseWriter, r *http.Request) error {
	if _, err := queryOf(r); err != nil {
		return err
	}
	return s.showNode(w)
}

func (s *Server) showNode(w http.ResponseWriter) error {
	ready, reasons := s.ready()
	return writeJSON(w, http.StatusOK, struct {
		Node     string   `json:"node"`
		Version  string   `json:"version,omitempty"`
		Ready    bool     `json:"ready"`
		Draining bool     `json:"draining"`
		Reasons  []string `json:"reasons,omitempty"`
		Troubles []string `json:"troubles,omitempty"`
	}{s.opts.Node, s.opts.Version, ready, s.opts.Draining.Load(), reasons, s.opts.Troubles()})
}

// postDrain takes the node out of readiness, so that load balancers and routers send it nothing new. It answers until it
// is stopped, and a restart brings it back.
//
// With leave it also gives its partitions to the others of its replica group, and answers from each until they are ready for it.
func (s *Server) postDrain(w http.ResponseWriter, r *http.Request) error {
	query, err := queryOf(r, "leave")
	if err != nil {
		return err
	}
	leave, err := flagOf(query, "leave")
	if err != nil {
		return err
	}
	if leave {
		if s.opts.Leave == nil {
			return notKnown("this node is in no replica group that it could leave")
		}
		ctx, cancel := contextWithin(r, s.opts.Limits.PublishTimeout)
		defer cancel()
		if err := s.opts.Leave(ctx); err != nil {
			return fromLog(err)
		}
		s.log.Warn().Msg("the node has left its replica group")
	}
	return s.drain(w, r, true)
}

// deleteDrain undoes postDrain.
func (s *Server) deleteDrain(w http.ResponseWriter, r *http.Request) error {
	if _, err := queryOf(r); err != nil {
		return err
	}
	return s.drain(w, r, false)
}

func (s *Server) drain(w http.ResponseWriter, r *http.Request, on bool) error {
	if s.opts.Draining.Swap(on) != on {
		s.log.Warn().Bool("draining", on).Msg("readiness was changed by the API")
	}
	return s.showNode(w)
}
