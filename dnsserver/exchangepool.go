package dnsserver

import "sync"

// exchangePool is a bounded number of exchanges, made when first needed, for queries over TCP and TLS that wait.
type exchangePool struct {
	server *Server
	max    int
	free   chan *exchange

	mu   sync.Mutex // guards made
	made int
}

func (p *exchangePool) init(s *Server, n int) {
	p.server, p.max, p.free = s, n, make(chan *exchange, n)
}

// take returns a free exchange, and waits for one when all are in use. Who takes it says how the query came.
func (p *exchangePool) take() *exchange {
	if x := p.tryTake(); x != nil {
		return x
	}
	return <-p.free
}

// tryTake returns a free exchange, or nil when all are in use.
func (p *exchangePool) tryTake() *exchange {
	select {
	case x := <-p.free:
		return x
	default:
	}
	p.mu.Lock()
	more := p.made < p.max
	if more {
		p.made++
	}
	p.mu.Unlock()
	if !more {
		return nil
	}
	x := p.server.newExchange()
	x.mayWait, x.mayAsk = true, true
	return x
}

func (p *exchangePool) put(x *exchange) { p.free <- x }
