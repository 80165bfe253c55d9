package admin

import (
	"net/http"

	"balefire/zones/zonefile"
)

// getFile writes a zone as a zone file, from one position, in bounded memory. A client that gets less than the whole
// zone sees the connection cut.
func (s *Server) getFile(w http.ResponseWriter, r *http.Request) error {
	apex, err := zoneOf(r)
	if err != nil {
		return err
	}
	if _, err := queryOf(r); err != nil {
		return err
	}
	reading, err := s.read(apex)
	if err != nil {
		return err
	}
	defer reading.Close()
	if err := noContent(reading.Info); err != nil {
		return err
	}
	h := w.Header()
	h.Set("Content-Type", "text/dns; charset=us-ascii")
	h.Set("Content-Disposition", `attachment; filename="`+safeFileName(fileName(apex))+`"`)
	h.Set("ETag", tag(reading.Info.Serial))
	h.Set("Cache-Control", "no-store")
	if r.Method == http.MethodHead {
		w.WriteHeader(http.StatusOK)
		return nil
	}
	out := newPacedWriter(w, &s.opts.Limits)
	err = zonefile.Write(out, apex, reading.All(r.Context()))
	if out.err != nil {
		panic(http.ErrAbortHandler) // it is the client that is gone, or too slow
	}
	return err
}

// safeFileName keeps what every system takes in a file's name.
func safeFileName(name string) string {
	b := []byte(name)
	for i, c := range b {
		if c != '.' && c != '-' && c != '_' && (c < '0' || c > '9') && (c|0x20 < 'a' || c|0x20 > 'z') {
			b[i] = '_'
		}
	}
	return string(b)
}
