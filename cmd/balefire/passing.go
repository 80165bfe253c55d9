package main

import (
	"fmt"
	"net/http"
	"net/netip"
	"net/url"

	"balefire/dnsserver"
	"balefire/zones"
)

// Messages for zones that another node has travel as calls over the relay. Of the client they say what the node knows that it has sent them to.
const (
	clientHeader = "Balefire-Client" // the client's address
	keyHeader    = "Balefire-Key"    // the name of the key that signed the message, percent-encoded; none: it was not signed
)

// peerCalls adds the messages that other nodes pass on to the API's calls that they do. It is for a listener that has made sure that who calls is a node
// of the region: what it says of the client is believed.
func peerCalls(calls http.Handler, node transferNode, server *dnsserver.Server, told *notices, lister hostedZones) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/", calls)
	mux.Handle("POST "+transferPath, passedTransfers{node, server})
	mux.Handle("POST "+forwardPath, forwarded{server})
	mux.Handle("GET "+hostedPath, lister)
	mux.Handle("POST "+noticePath, passedNotices{told, server})
	return mux
}

// setCaller says who has sent a message.
func setCaller(h http.Header, from netip.Addr, key zones.Name) {
	h.Set(clientHeader, from.String())
	if key != "" {
		h.Set(keyHeader, url.PathEscape(key.String()))
	}
}

// readCaller reads what setCaller has written.
func readCaller(h http.Header) (from netip.Addr, key zones.Name, err error) {
	if from, err = netip.ParseAddr(h.Get(clientHeader)); err != nil {
		return from, key, fmt.Errorf("%s: %w", clientHeader, err)
	}
	if escaped := h.Get(keyHeader); escaped != "" {
		var text string
		if text, err = url.PathUnescape(escaped); err == nil {
			key, err = zones.ParseName(text)
		}
		if err != nil {
			return from, key, fmt.Errorf("%s: %w", keyHeader, err)
		}
	}
	return from, key, nil
}
