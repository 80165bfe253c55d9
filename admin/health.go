package admin

import "net/http"

// getHealth says that the process is alive and serves HTTP, and nothing more.
func (s *Server) getHealth(w http.ResponseWriter, _ *http.Request) error {
	return writeJSON(w, http.StatusOK, struct {
		Status  string `json:"status"`
		Version string `json:"version,omitempty"`
	}{"ok", s.opts.Version})
}

// getReady says whether the node can be sent queries. It is for load balancers, so it needs no token.
func (s *Server) getReady(w http.ResponseWriter, _ *http.Request) error {
	type readiness struct {
		Status  string   `json:"status"`
		Reasons []string `json:"reasons,omitempty"`
		// What people should put right, and what does not keep queries away.
		Troubles []string `json:"troubles,omitempty"`
	}
	troubles := s.opts.Troubles()
	if ready, reasons := s.ready(); !ready {
		return writeJSON(w, http.StatusServiceUnavailable, readiness{"not ready", reasons, troubles})
	}
	return writeJSON(w, http.StatusOK, readiness{Status: "ready", Troubles: troubles})
}
