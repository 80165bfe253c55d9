package main

import (
	"fmt"
	"os"
	"regexp"
	"time"
)

// Config is everything that `balefire serve` can be told. Each field has one name, its key (options, below):
// "dns.edns-size" is dns: {edns-size: …} in the file, BALEFIRE_DNS_EDNS_SIZE in the environment and
// --dns-edns-size on the command line. The command line wins over the environment, that over the file.
type Config struct {
	DataDir      string   // holds partitions, the embedded log, and the token
	Token        string   // the administrator's; empty: the one in DataDir/admin.token, made at the first start
	Brokers      []string // HOST:PORT of Kafka or Redpanda; empty: the embedded log
	Namespace    string   // prefix of topic names
	Region       string
	ReplicaGroup string // consumer group, one full copy of the data
	NodeID       string // stable over restarts, unique in the namespace
	Partitions   int    // of a namespace that does not exist yet, fixed from then on; 0: 8 embedded, else 64

	Kafka     KafkaConfig
	Gossip    GossipConfig
	Relay     RelayConfig
	DNS       DNSConfig
	Secondary SecondaryConfig
	Admin     AdminConfig
	Store     StoreConfig
	Backup    BackupConfig
	Secrets   SecretsConfig
	Log       LogConfig
}

// SecretsConfig is how the secrets of the namespace are kept.
type SecretsConfig struct {
	KeyFile string // seals those in the control topic; empty: with the embedded log DataDir/secrets.key, made when needed; else none
}

// KafkaConfig is how the brokers are spoken to.
type KafkaConfig struct {
	TLS        bool
	CA         string // PEM files
	Cert, Key  string
	ServerName string // what the brokers' certificates must be for; empty: the host of each address
	SASL       string // plain, scram-sha-256, scram-sha-512 or none
	User       string
	Password   string
	Rack       string
	// GroupProtocol is how the brokers spread partitions over the nodes of a replica group: classic, or consumer (KIP-848).
	GroupProtocol string
}

// GossipConfig is how the nodes of a region know of each other.
type GossipConfig struct {
	Listen    string   // HOST:PORT, UDP and TCP; empty: no gossip
	Advertise string   // HOST:PORT that the others reach it by; empty: Listen
	Join      []string // HOST:PORT of some others, this node's own among them or not
	Key       string   // base64 of 16, 24 or 32 octets; empty: not encrypted
}

// RelayConfig is how queries and calls are passed between the nodes of a region.
type RelayConfig struct {
	Listen    string // HOST:PORT, TCP; empty: this node neither passes queries on nor takes any
	Advertise string // HOST:PORT that the others reach it by; empty: Listen
	CA        string // PEM files; empty: certificates are self-made, their fingerprints gossiped
	Cert, Key string
}

// BackupConfig is what is done with an object store.
type BackupConfig struct {
	URL      string // s3://… or file:///…; empty: none
	Create   bool
	Restore  bool
	Interval time.Duration // in which each partition that changes is backed up
	Keep     int           // backups of each partition
}

// DNSConfig is what the DNS side can be told.
type DNSConfig struct {
	Listen       []string // HOST:PORT, UDP and TCP
	UDPWorkers   int      // sockets and goroutines for each address; 0: one for each CPU
	AnswerCache  int64    // octets that all UDP workers together keep of answers that they have made; TCP takes an eighth besides
	EDNSSize     int      // octets: the largest UDP answer, and what is advertised
	NSID         bool     // send Identity as NSID (RFC 5001) to who asks
	Identity     string   // what NSID, id.server and hostname.bind say; empty: NodeID
	HideIdentity bool     // refuse id.server and hostname.bind
	Version      string   // what version.server and version.bind say; empty: the program's
	HideVersion  bool
	Cookies      bool // RFC 7873, RFC 9018

	CookieRotation time.Duration // after which the namespace's secret is replaced
	RequireCookies bool          // answer UDP queries whose cookie is not the server's with BADCOOKIE
	RRL            RRLConfig
	TCP            TCPConfig
	TLS            TLSConfig
	Transfers      int // zones that are transferred at once
	// AllowPeers are networks that zones may come from, and be told to, although no other server has addresses there.
	AllowPeers []string
}

// RRLConfig is response rate limiting over UDP, by client network: a /24 of IPv4, a /56 of IPv6.
type RRLConfig struct {
	Rate   int      // answers a second; 0: no limit
	Burst  int      // answers at once after a pause; 0: as many as Rate
	Slip   int      // of those over the limit, every nth is sent truncated; 0: none, 1: all
	Exempt []string // networks without a limit, as CIDR
}

// TCPConfig limits TCP.
type TCPConfig struct {
	Connections  int           // in all
	PerNetwork   int           // for each client network, as RRL counts networks
	Pipeline     int           // queries under way on one connection
	IdleTimeout  time.Duration // for a whole query to come
	WriteTimeout time.Duration // for a client to take an answer
}

// TLSConfig is DNS over TLS. TCP's limits hold for it as well.
type TLSConfig struct {
	Listen    []string // HOST:PORT, TCP; empty: none
	Cert, Key string   // PEM files
}

// SecondaryConfig is how secondary zones are kept.
type SecondaryConfig struct {
	MinRefresh, MaxRefresh time.Duration // bounds of what SOAs ask for
	MinRetry, MaxRetry     time.Duration
	Checks                 int    // zones that are worked on at once
	PerPrimary             int    // of one primary
	Transfers              int    // that are fetched at once
	CA                     string // PEM file; empty: the system's
}

// AdminConfig is what the HTTP side can be told.
type AdminConfig struct {
	Listen string // HOST:PORT
}

// StoreConfig is what storing can be told.
type StoreConfig struct {
	HotZones       int64 // octets of memory for zones that are served from it
	HistoryChanges int   // change sets kept for each zone
	HistoryAge     time.Duration
	ScrubInterval  time.Duration // in which each partition is compared with its digest; 0: never
	DiskReserve    int64         // octets of free space below which nothing is applied; 0: 15%, at most 8 GiB
	KeepLeft       time.Duration // for which the files of a partition that went to another node are kept
}

// LogConfig is what the program's own log can be told.
type LogConfig struct {
	Level  string
	Format string
}

// defaultConfig is a one-node namespace on loopback.
func defaultConfig() *Config {
	node, err := os.Hostname()
	if err != nil || !plainName.MatchString(node) {
		node = "node-1"
	}
	return &Config{
		DataDir:      "balefire-data",
		Namespace:    "balefire",
		Region:       "local",
		ReplicaGroup: "main",
		NodeID:       node,
		DNS: DNSConfig{
			Listen:      []string{"127.0.0.1:5300"},
			AnswerCache: 64 << 20, EDNSSize: 1232, // fits any path without fragments
			NSID:    true,
			Cookies: true,

			CookieRotation: 24 * time.Hour,
			RRL:            RRLConfig{Slip: 2},
			Transfers:      32,
			TCP: TCPConfig{
				Connections: 4096, PerNetwork: 512, Pipeline: 32,
				IdleTimeout: 10 * time.Second, WriteTimeout: 5 * time.Second,
			},
		},
		Secondary: SecondaryConfig{
			MinRefresh: time.Minute, MaxRefresh: 28 * 24 * time.Hour, MinRetry: 30 * time.Second, MaxRetry: 14 * 24 * time.Hour,
			Checks: 128, PerPrimary: 8, Transfers: 16,
		},
		Admin: AdminConfig{Listen: "127.0.0.1:8053"},
		Store: StoreConfig{
			HotZones:       256 << 20,
			HistoryChanges: 1000,
			HistoryAge:     90 * 24 * time.Hour,
			ScrubInterval:  24 * time.Hour,
			KeepLeft:       24 * time.Hour,
		},
		Kafka:  KafkaConfig{SASL: "none", GroupProtocol: "classic"},
		Backup: BackupConfig{Create: true, Restore: true, Interval: time.Hour, Keep: 3},
		Log:    LogConfig{Level: "info", Format: "auto"},
	}
}

// option is one line of the table that flags, the environment, the file, `config show` and the README's
// table are made from.
type option struct {
	key   string
	value value // bound to a field of the Config that options was called on
	doc   string
	// secret values are hidden when shown, and can't be given as flags, which every user of a machine can read.
	secret bool
}

// options is the table, in the order in which people read it.
func (c *Config) options() []option {
	return []option{
		{key: "data-dir", value: path(&c.DataDir), doc: "directory for partitions, the embedded log and the token"},
		{key: "token", value: text(&c.Token), secret: true, doc: "the administrator's token; without it the first start makes one, in admin.token of the data directory"},
		{key: "brokers", value: addresses(&c.Brokers, true), doc: "Kafka or Redpanda brokers; without any, the log is embedded in this node"},
		{key: "namespace", value: namespace(&c.Namespace), doc: "the data set that this node belongs to: a prefix of topic names"},
		{key: "region", value: region(&c.Region), doc: "the place of this node"},
		{key: "replica-group", value: name(&c.ReplicaGroup), doc: "the full copy of the data that this node is part of: a consumer group"},
		{key: "node-id", value: name(&c.NodeID), doc: "this node's name: unique, and the same after a restart; by default the host's name"},
		{key: "partitions", value: number(&c.Partitions, 0, 4096), doc: "partitions of the namespace when it is made, fixed from then on; 0 means 8 with the embedded log and 64 with brokers"},

		{key: "kafka.tls", value: boolean(&c.Kafka.TLS), doc: "speak TLS to the brokers"},
		{key: "kafka.tls-ca", value: path(&c.Kafka.CA), doc: "PEM file with the authorities of the brokers' certificates; empty means the system's"},
		{key: "kafka.tls-cert", value: path(&c.Kafka.Cert), doc: "PEM file with the certificate that this node shows to the brokers"},
		{key: "kafka.tls-key", value: path(&c.Kafka.Key), doc: "PEM file with its key"},
		{key: "kafka.tls-server-name", value: text(&c.Kafka.ServerName), doc: "name that the brokers' certificates must be for; empty means the host of each broker's address"},
		{key: "kafka.sasl", value: choice(&c.Kafka.SASL, "none", "plain", "scram-sha-256", "scram-sha-512"), doc: "how this node authenticates to the brokers"},
		{key: "kafka.user", value: text(&c.Kafka.User), doc: "its name there"},
		{key: "kafka.password", value: text(&c.Kafka.Password), secret: true, doc: "its password there"},
		{key: "kafka.rack", value: text(&c.Kafka.Rack), doc: "where this node is, as the brokers name racks: it then reads from a replica near by, where they allow that"},

		{key: "kafka.group-protocol", value: choice(&c.Kafka.GroupProtocol, "classic", "consumer"), doc: "how partitions are spread over the nodes of a replica group: classic works with every broker, consumer is KIP-848 of Kafka 4"},

		{key: "gossip.listen", value: maybeAddress(&c.Gossip.Listen), doc: "address, UDP and TCP, at which the nodes of the region tell each other what they hold; empty means that this node knows of no other"},
		{key: "gossip.advertise", value: maybeAddress(&c.Gossip.Advertise), doc: "address by which the others reach it; empty means gossip.listen"},
		{key: "gossip.join", value: addresses(&c.Gossip.Join, true), doc: "gossip addresses of some nodes of the region, of which one must be up"},
		{key: "gossip.key", value: text(&c.Gossip.Key), secret: true, doc: "key that gossip is encrypted with, the same for all nodes of a region: base64 of 32 octets"},

		{key: "relay.listen", value: maybeAddress(&c.Relay.Listen), doc: "address, TCP, at which the nodes of the region pass queries and calls on to this one; empty means that it takes part in none of that"},
		{key: "relay.advertise", value: maybeAddress(&c.Relay.Advertise), doc: "address by which the others reach it; empty means relay.listen"},
		{key: "relay.tls-ca", value: path(&c.Relay.CA), doc: "PEM file with the authorities of the nodes' certificates; empty means that they are self-made, and known by gossip"},
		{key: "relay.tls-cert", value: path(&c.Relay.Cert), doc: "PEM file with this node's certificate, for servers and clients"},
		{key: "relay.tls-key", value: path(&c.Relay.Key), doc: "PEM file with its key"},

		{key: "dns.listen", value: addresses(&c.DNS.Listen, false), doc: "addresses for DNS, each over UDP and TCP"},
		{key: "dns.udp-workers", value: number(&c.DNS.UDPWorkers, 0, 1024), doc: "UDP sockets for each address; 0 means one for each CPU"},
		{key: "dns.answer-cache", value: size(&c.DNS.AnswerCache, 1<<20), doc: "memory for whole answers that were made before, of all UDP workers together; TCP takes an eighth of it besides"},
		{key: "dns.edns-size", value: number(&c.DNS.EDNSSize, 512, 4096), doc: "the largest UDP answer in octets, and the size that is advertised"},
		{key: "dns.nsid", value: boolean(&c.DNS.NSID), doc: "name this node to clients that ask with NSID (RFC 5001)"},
		{key: "dns.identity", value: text(&c.DNS.Identity), doc: "what NSID and id.server say; empty means the node's name"},
		{key: "dns.hide-identity", value: boolean(&c.DNS.HideIdentity), doc: "refuse id.server and hostname.bind"},
		{key: "dns.version", value: text(&c.DNS.Version), doc: "what version.server says; empty means the program's version"},
		{key: "dns.hide-version", value: boolean(&c.DNS.HideVersion), doc: "refuse version.server and version.bind"},
		{key: "dns.cookies", value: boolean(&c.DNS.Cookies), doc: "DNS cookies (RFC 7873, RFC 9018)"},
		{key: "dns.cookie-rotation", value: duration(&c.DNS.CookieRotation, 2*time.Hour, 365*24*time.Hour), doc: "time after which the namespace's cookie secret is replaced; cookies of the one before stay good for as long again"},
		{key: "dns.require-cookies", value: boolean(&c.DNS.RequireCookies), doc: "answer UDP queries that have a cookie, but no valid one of the server, with BADCOOKIE"},
		{key: "dns.rrl.rate", value: number(&c.DNS.RRL.Rate, 0, 1_000_000), doc: "UDP answers a second for each client network (/24 of IPv4, /56 of IPv6), after which answers are limited; 0 means no limit"},
		{key: "dns.rrl.burst", value: number(&c.DNS.RRL.Burst, 0, 1_000_000), doc: "UDP answers at once after a pause; 0 means as many as the rate"},
		{key: "dns.rrl.slip", value: number(&c.DNS.RRL.Slip, 0, 100), doc: "of the answers over the limit, every n-th is sent, truncated, so that honest clients come back over TCP; 0 means none"},
		{key: "dns.rrl.exempt", value: networks(&c.DNS.RRL.Exempt), doc: "client networks without a limit"},
		{key: "dns.tcp.connections", value: number(&c.DNS.TCP.Connections, 1, 1_000_000), doc: "TCP connections at once, those with TLS included"},
		{key: "dns.tcp.per-network", value: number(&c.DNS.TCP.PerNetwork, 1, 1_000_000), doc: "TCP connections at once for each client network"},
		{key: "dns.tcp.pipeline", value: number(&c.DNS.TCP.Pipeline, 1, 1000), doc: "queries under way at once on a TCP connection"},
		{key: "dns.tcp.idle-timeout", value: duration(&c.DNS.TCP.IdleTimeout, time.Second, time.Hour), doc: "time in which a whole query must come on a TCP connection, and a TLS handshake be done"},
		{key: "dns.tcp.write-timeout", value: duration(&c.DNS.TCP.WriteTimeout, time.Second, time.Hour), doc: "time in which a client must take an answer over TCP"},

		{key: "dns.transfers", value: number(&c.DNS.Transfers, 1, 10_000), doc: "zones that are transferred to others at once; some more wait for their turn"},
		{key: "dns.allow-peers", value: networks(&c.DNS.AllowPeers), doc: "networks of loopback, link-local and other addresses that primaries and secondaries may have all the same, for tests"},
		{key: "dns.tls.listen", value: addresses(&c.DNS.TLS.Listen, true), doc: "addresses for DNS over TLS (RFC 7858; its port is 853), which needs a certificate; TCP's limits hold for it as well; empty means none"},
		{key: "dns.tls.cert", value: path(&c.DNS.TLS.Cert), doc: "PEM file with the certificate for it, and those that it was issued by; read again when it changes, and at SIGHUP"},
		{key: "dns.tls.key", value: path(&c.DNS.TLS.Key), doc: "PEM file with its key"},

		{key: "secondary.min-refresh", value: duration(&c.Secondary.MinRefresh, time.Second, 365*24*time.Hour), doc: "the least time after which a secondary zone's primary is asked whether there is something new, whatever its SOA says"},
		{key: "secondary.max-refresh", value: duration(&c.Secondary.MaxRefresh, time.Second, 365*24*time.Hour), doc: "the longest such time"},
		{key: "secondary.min-retry", value: duration(&c.Secondary.MinRetry, time.Second, 365*24*time.Hour), doc: "the least time after which it is asked again when that failed, whatever the SOA says"},
		{key: "secondary.max-retry", value: duration(&c.Secondary.MaxRetry, time.Second, 365*24*time.Hour), doc: "the longest such time"},
		{key: "secondary.checks", value: number(&c.Secondary.Checks, 1, 10_000), doc: "secondary zones that are worked on at once"},
		{key: "secondary.per-primary", value: number(&c.Secondary.PerPrimary, 1, 10_000), doc: "secondary zones of one primary that are worked on at once"},
		{key: "secondary.transfers", value: number(&c.Secondary.Transfers, 1, 10_000), doc: "zones that are fetched from primaries at once"},
		{key: "secondary.tls-ca", value: path(&c.Secondary.CA), doc: "PEM file with the authorities of the certificates of primaries that are spoken to over TLS by a name; empty means the system's"},

		{key: "admin.listen", value: address(&c.Admin.Listen), doc: "address for HTTP: the API, health and metrics"},

		{key: "store.hot-zones", value: size(&c.Store.HotZones, 1<<20), doc: "memory for zones that are served from memory"},
		{key: "store.history-changes", value: number(&c.Store.HistoryChanges, 0, 1_000_000), doc: "change sets that history keeps for each zone; 0 means none"},
		{key: "store.history-age", value: duration(&c.Store.HistoryAge, time.Minute, 100*365*24*time.Hour), doc: "time for which history keeps them"},
		{key: "store.scrub-interval", value: duration(&c.Store.ScrubInterval, 0, 365*24*time.Hour), doc: "time in which every partition is read whole and compared with its digest; 0 means never"},
		{key: "store.disk-reserve", value: size(&c.Store.DiskReserve, 0), doc: "free disk space below which nothing more is applied; 0 means 15% of the file system, at most 8GiB"},
		{key: "store.keep-left", value: duration(&c.Store.KeepLeft, 0, 365*24*time.Hour), doc: "time for which the files of a partition that went to another node are kept, in case it comes back"},

		{key: "backup.url", value: text(&c.Backup.URL), doc: "object store for backups: s3://BUCKET/PREFIX?region=…&endpoint=…&path-style=true or file:///DIRECTORY; empty means none. S3's credentials come from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or from where else the AWS tools look"},
		{key: "backup.create", value: boolean(&c.Backup.Create), doc: "back up the partitions of this node there"},
		{key: "backup.restore", value: boolean(&c.Backup.Restore), doc: "take a partition that is missing, damaged or left behind by the log from there"},
		{key: "backup.interval", value: duration(&c.Backup.Interval, time.Second, 365*24*time.Hour), doc: "time in which each partition that has changed is backed up; the mutations topic must keep three times as long, and a node's longest outage"},
		{key: "backup.keep", value: number(&c.Backup.Keep, 1, 10_000), doc: "backups of each partition that are kept"},

		{key: "secrets.key-file", value: path(&c.Secrets.KeyFile), doc: "file with the secret that TSIG keys are sealed with in the log: base64 of 32 octets, mode 0600, the same for all nodes; empty means secrets.key of the data directory, made when it is needed, with the embedded log, and no TSIG keys with brokers"},

		{key: "log.level", value: choice(&c.Log.Level, "debug", "info", "warn", "error"), doc: "the least level that is logged"},
		{key: "log.format", value: choice(&c.Log.Format, "auto", "text", "json"), doc: "how the log looks; auto means text on a terminal, JSON elsewhere"},
	}
}

// plainName is what may become part of a topic's, group's or file's name.
var plainName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// plainNamespace is narrower: a topic's name has the namespace up to its first dot.
var plainNamespace = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$`)

// A mistake is something wrong with one option, or with a place in the file.
type mistake struct {
	where string // FILE:LINE:COLUMN, BALEFIRE_…, or --flag
	key   string // "" when the file can't be read at all
	what  string // what is wrong, and what would be right
}

func (m mistake) Error() string {
	s := m.what
	if m.key != "" {
		s = m.key + ": " + s
	}
	if m.where != "" {
		s = m.where + ": " + s
	}
	return s
}

// Validate finds what is wrong between options that are right by themselves; the options table checks
// each alone. Mistakes have no place yet.
func (c *Config) Validate() []mistake {
	var found []mistake
	add := func(key, format string, args ...any) {
		found = append(found, mistake{key: key, what: fmt.Sprintf(format, args...)})
	}
	if c.DataDir == "" {
		add("data-dir", "is empty: want a directory")
	}
	if len(c.DNS.Listen) == 0 {
		add("dns.listen", "is empty: want at least one HOST:PORT")
	}
	seen := map[string]bool{}
	for _, a := range c.DNS.Listen {
		if seen[a] && !endsInPortZero(a) {
			add("dns.listen", "%s is there twice", a)
		}
		seen[a] = true
	}
	for _, a := range c.DNS.TLS.Listen {
		if seen[a] && !endsInPortZero(a) {
			add("dns.tls.listen", "%s is there twice, or also in dns.listen, which takes its TCP port", a)
		}
		seen[a] = true
	}
	if t := c.DNS.TLS; len(t.Listen) > 0 && (t.Cert == "" || t.Key == "") {
		add("dns.tls.cert", "and dns.tls.key are needed for dns.tls.listen: want both")
	} else if len(t.Listen) == 0 && (t.Cert != "" || t.Key != "") {
		add("dns.tls.listen", "is empty, but there are other settings of TLS: want HOST:PORT")
	}
	if seen[c.Admin.Listen] && !endsInPortZero(c.Admin.Listen) {
		add("admin.listen", "%s is also in dns.listen or dns.tls.listen, which takes its TCP port", c.Admin.Listen)
	}
	if c.DNS.TCP.PerNetwork > c.DNS.TCP.Connections {
		add("dns.tcp.per-network", "%d is more than dns.tcp.connections, %d", c.DNS.TCP.PerNetwork, c.DNS.TCP.Connections)
	}
	if len(c.DNS.Identity) > 255 {
		add("dns.identity", "has %d octets: want at most 255, as it is sent as one character-string", len(c.DNS.Identity))
	}
	if len(c.DNS.Version) > 255 {
		add("dns.version", "has %d octets: want at most 255, as it is sent as one character-string", len(c.DNS.Version))
	}
	if c.DNS.NSID && len(c.DNS.Identity) > 64 {
		add("dns.identity", "has %d octets: want at most 64, as it is sent as NSID", len(c.DNS.Identity))
	}
	if sec := c.Secondary; sec.MinRefresh > sec.MaxRefresh {
		add("secondary.min-refresh", "%s is more than secondary.max-refresh, %s", sec.MinRefresh, sec.MaxRefresh)
	} else if sec.MinRetry > sec.MaxRetry {
		add("secondary.min-retry", "%s is more than secondary.max-retry, %s", sec.MinRetry, sec.MaxRetry)
	}
	k := c.Kafka
	if !k.TLS && (k.CA != "" || k.Cert != "" || k.Key != "" || k.ServerName != "") {
		add("kafka.tls", "is false, but other settings of TLS are there: want true, or none of them")
	}
	if (k.Cert == "") != (k.Key == "") {
		add("kafka.tls-cert", "and kafka.tls-key belong together: want both, or none")
	}
	if k.SASL != "none" && (k.User == "" || k.Password == "") {
		add("kafka.sasl", "is %s: want kafka.user and kafka.password, too", k.SASL)
	}
	if k.SASL == "none" && (k.User != "" || k.Password != "") {
		add("kafka.sasl", "is none, but there is a user or password: want plain, scram-sha-256 or scram-sha-512")
	}
	if len(c.Brokers) == 0 && (k.TLS || k.SASL != "none") {
		add("brokers", "is empty, but there are settings for speaking to brokers: want HOST:PORT")
	}
	c.validateRegion(add)
	if n := len(c.Token); n > 0 && n < 16 {
		add("token", "has %d characters: want at least 16, or leave it out and one is made", n)
	}
	return found
}
