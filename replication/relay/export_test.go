package relay

import "time"

func init() {
	dialTimeout, handshakeTimeout, frameTimeout, writeTimeout = time.Minute, time.Minute, time.Minute, time.Minute
}
