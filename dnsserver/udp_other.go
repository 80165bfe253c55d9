//go:build !linux

package dnsserver

import (
	"net"
	"net/netip"
	"time"

	"balefire/dnsserver/wire"
)

// maxUDPQuery is the longest query over UDP that is read whole; longer ones are malformed to us.
const maxUDPQuery = 4096

// udpWorker is one receiving loop. Elsewhere than on Linux all of an address share a socket, move one packet
// a call, and answer from the address that the system chooses.
type udpWorker struct {
	exchange *exchange
	conn     *net.UDPConn
	query    [maxUDPQuery + 1]byte
	reply    [wire.MaxUDPSize]byte
}

// udpSocket is the one socket of an address.
type udpSocket struct{ *net.UDPConn }

// listenUDP opens a socket, which all workers share.
func listenUDP(family string, at netip.AddrPort, _ int) ([]*udpSocket, error) {
	c, err := net.ListenPacket("udp"+family, at.String())
	if err != nil {
		return nil, err
	}
	return []*udpSocket{{c.(*net.UDPConn)}}, nil
}

// end makes the workers stop when they have served what they have read.
func (s *udpSocket) end() { _ = s.SetReadDeadline(time.Unix(1, 0)) } // fails only when closed already

// close gives the socket back.
func (s *udpSocket) close() { _ = s.Close() }

func (s *Server) newUDPWorkers(e *endpoint) (workers []*udpWorker) {
	for range s.opts.Workers {
		x := &exchange{server: s, via: overUDP}
		s.exchanges = append(s.exchanges, x) // the server's lock is held
		workers = append(workers, &udpWorker{exchange: x, conn: e.udp[0].UDPConn})
	}
	return workers
}

// run serves packets until its socket gets a read deadline, or is closed.
func (w *udpWorker) run() {
	x := w.exchange
	for {
		n, peer, err := w.conn.ReadFromUDPAddrPort(w.query[:])
		if err != nil {
			if opErr, ok := err.(*net.OpError); ok && !opErr.Timeout() && opErr.Temporary() {
				continue
			}
			return
		}
		packet := w.query[:n]
		if n > maxUDPQuery {
			packet = packet[:wire.HeaderLen] // what was cut off can't be known
		}
		x.begin()
		from := peer.Addr().Unmap().WithZone("")
		reply, later := x.serve(packet, from, w.reply[:0])
		back := returnAddress{w.conn, peer}
		switch {
		case later:
			w.putOff(packet, from, back)
		case len(reply) > 0 && !back.send(reply):
			x.count.drop(dropSend)
		}
		x.flush()
	}
}

// putOff copies a query to the slow lane.
func (w *udpWorker) putOff(packet []byte, from netip.Addr, back returnAddress) {
	lane := w.exchange.lane()
	j := lane.job()
	if j == nil {
		w.exchange.count.drop(dropSlowFull)
		return
	}
	w.exchange.count.slow++
	j.packet = append(j.packet[:0], packet...)
	j.from, j.since, j.back = from, w.exchange.nanos, back
	lane.put(j)
}

// returnAddress is where an answer goes to.
type returnAddress struct {
	conn *net.UDPConn
	peer netip.AddrPort
}

// port returns the port that it goes to.
func (a *returnAddress) port() uint16 { return a.peer.Port() }

// send sends one message and reports whether the kernel took it.
func (a *returnAddress) send(message []byte) bool {
	_, err := a.conn.WriteToUDPAddrPort(message, a.peer)
	return err == nil
}
