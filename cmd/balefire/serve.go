package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"balefire/admin"
	"balefire/dnsserver"
	"balefire/replication"
	"balefire/replication/mutationlog"
	"balefire/replication/objectstore"
	"balefire/replication/relay"
	"balefire/store"
	"balefire/zones"
)

const (
	// readyPatience is how long a start waits for the node to be ready before it says that it has begun all the same: one damaged
	// partition must not have it taken for one that hangs.
	readyPatience = 30 * time.Second
	// stuckPatience is how long it waits while what is in the way stays the same: a node that catches up says something
	// else all the time, a damaged partition does not.
	stuckPatience = 2 * time.Second
	// stopPatience is how long queries and requests under way may take when the node is told to stop.
	stopPatience = 10 * time.Second
)

func newServeCommand() *cobra.Command {
	var flags configFlags
	var sample string
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run a node: DNS, the API, and the log or its client",
		Long: `Run a node. With nothing configured it is a whole namespace by itself, on loopback, with the log embedded. Options
come from flags, the environment and --config, in this order; 'balefire config show' prints what they come to.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, found := flags.load(os.Environ())
			if len(found) > 0 {
				return reportMistakes(cmd.ErrOrStderr(), found)
			}
			logger := newLogger(cmd.ErrOrStderr(), l.Log)
			for _, name := range l.strange {
				logger.Warn().Str("variable", name).Msg("no option has this name; it is ignored")
			}
			return serve(cmd.Context(), l.Config, sample, cmd.OutOrStdout(), logger)
		},
	}
	flags.register(cmd.Flags())
	cmd.Flags().StringVar(&sample, "sample", "", "a zone file, or a directory of them, to import when ready; zones that exist are left alone")
	return cmd
}

// serve runs a node until ctx ends: log and store, HTTP, so that it can be asked why it is not ready, and DNS.
// What began last ends first.
func serve(ctx context.Context, cfg *Config, sample string, out io.Writer, logger zerolog.Logger) (err error) {
	if err := os.MkdirAll(cfg.DataDir, 0o700); err != nil {
		return err
	}
	lock, err := lockDataDir(ctx, cfg.DataDir)
	if err != nil {
		return err
	}
	defer lock.Close()
	secret, _, err := admin.LoadOrCreateToken(cfg.DataDir, cfg.Token)
	if err != nil {
		return err
	}
	certificate, err := openCertificate(cfg)
	if err != nil {
		return err
	}
	metrics := prometheus.NewRegistry()
	metrics.MustRegister(goCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))

	opts := replicationOptions(cfg, metrics, logger)
	if opts.Log.Client, err = kafkaSecurity(cfg).Options(); err != nil {
		return err
	}
	if opts.Backup, err = backupOptions(ctx, cfg); err != nil {
		return err
	}
	if opts.Backup.Objects != nil {
		opts.Log.Retention = 3*cfg.Backup.Interval + longestOutage
	}
	if opts.Peers, err = peerOptions(cfg); err != nil {
		return err
	}
	node, err := replication.Start(opts)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, node.Close()) }()
	keys, err := openKeyring(cfg, node.Log(), part(logger, "keyring"))
	if err != nil {
		return err
	}

	// Large imports are sorted beside the data: /tmp may be memory.
	scratch := filepath.Join(cfg.DataDir, "tmp")
	if err := os.MkdirAll(scratch, 0o700); err != nil {
		return err
	}
	kept, err := openSecondaries(node, keys, cfg, scratch, part(logger, "secondary"))
	if err != nil {
		return err
	}
	metrics.MustRegister(kept)
	notifier := newNotifier(node, keys, cfg, part(logger, "notify"))
	metrics.MustRegister(notifier)
	feed := newZoneFeed(node, kept, part(logger, "secondary"))
	catalogs := newCatalogs(node, part(logger, "catalogs"))
	metrics.MustRegister(catalogs)
	told := newNotices(node, feed.heed, part(logger, "notify"))
	var answering, draining atomic.Bool
	ready := func() (bool, []string) {
		ready, reasons := node.Ready()
		if !answering.Load() {
			return false, append(reasons, "DNS does not listen yet")
		}
		return ready, reasons
	}
	var leave func(context.Context) error
	if len(cfg.Brokers) > 0 {
		leave = node.LeaveGroup
	}
	view := clusterView{node: node, keys: keys, catalogs: catalogs, ready: ready, draining: &draining}
	api, err := admin.New(admin.Options{
		Listen:      cfg.Admin.Listen,
		Reader:      node.Store(),
		Publisher:   node,
		Ready:       ready,
		Troubles:    view.troubles,
		Draining:    &draining,
		Leave:       leave,
		Node:        cfg.NodeID,
		Status:      view.status,
		Groups:      node,
		Freezer:     node.Log(),
		Keyring:     keys,
		Peers:       peers{node},
		Backups:     backups{node},
		Transfers:   transfersView{node, kept, notifier},
		Catalogs:    catalogsView{catalogs, catalogNode{node}},
		LogEnd:      view.logEnd,
		CheckRemote: func(r zones.Remote) error { return r.Check(parseNetworks(cfg.DNS.AllowPeers)) },
		Registry:    metrics,
		TempDir:     scratch,
		Token:       admin.NewToken("admin", secret),
		Version:     programVersion(),
		Logger:      part(logger, "admin"),
	})
	if err != nil {
		return err
	}
	relayed := api.Relayed()
	node.ServeCalls(relayed)
	if err := api.Start(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, withPatience(api.Shutdown)) }()

	// DNS begins before the partitions are open: what is of one that is not, or could be, is answered with SERVFAIL, and nobody is sent here
	// yet who asks for readiness.
	server, err := dnsserver.New(dnsserver.Options{
		Listen: cfg.DNS.Listen, ListenTLS: cfg.DNS.TLS.Listen, Certificate: certificate.Certificate,
		Zones: node, Elsewhere: node, Contents: node.Store(), DistantTransfers: distantTransfers{node}, Access: keys, Keys: keys,
		Updates: updates{node}, Forward: forwarding{node}, Notifies: told,
		Settings: dnsSettings(cfg, node.Log().CookieSecrets()),
		Workers:  cfg.DNS.UDPWorkers, AnswerCache: int(cfg.DNS.AnswerCache), Transfers: cfg.DNS.Transfers,
		Logger: part(logger, "dns"),
	})
	if err != nil {
		return err
	}
	metrics.MustRegister(server)
	if ctx.Err() != nil {
		return nil // told to stop before it could begin
	}
	if err := server.Start(); err != nil {
		return err
	}
	node.ServeCalls(peerCalls(relayed, node, server, told, hostedZones{catalogNode{node}}))
	answering.Store(true)
	defer func() { err = errors.Join(err, withPatience(server.Shutdown)) }()
	stopNotifier, err := startNotifier(notifier, node)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stopNotifier()) }()

	working, stop := context.WithCancel(ctx)
	var work sync.WaitGroup
	defer func() { stop(); work.Wait() }()
	secrets := cookieKeeper{cfg: cfg, log: node.Log(), server: server, logger: part(logger, "cookies")}
	work.Go(func() { secrets.run(working) })
	work.Go(func() { keys.Run(working) })
	work.Go(func() { told.run(working) })
	work.Go(func() { kept.Run(working) })
	work.Go(func() { feed.run(working) })
	work.Go(func() { runCatalogs(working, node, catalogs) })
	work.Go(func() { keepPace(working, cfg.Store.HotZones, node.Store().WriteBuffers) })
	work.Go(func() { view.tellReadiness(working) })

	stuck := stuckPatience
	if sample != "" {
		stuck = readyPatience // a node that is not ready takes no zones
	}
	waitUntilReady(ctx, node, stuck, logger)
	manager := newSupervisor()
	manager.tell("READY=1")
	if len(cfg.DNS.TLS.Listen) > 0 {
		work.Go(func() { followCertificate(working, certificate, part(logger, "dns")) })
	}
	work.Go(func() { manager.watch(working, func() { ready() }) })

	url := "http://" + api.Addr().String()
	if sample != "" {
		importSample(ctx, sample, url, secret, out, logger)
	}
	announce(out, cfg, server, url, sample != "")
	select {
	case <-ctx.Done():
		manager.tell("STOPPING=1")
		logger.Info().Msg("stopping")
		return nil
	case err := <-node.Failed():
		return fmt.Errorf("the embedded log could not keep its files: %w", err)
	}
}

func part(logger zerolog.Logger, name string) zerolog.Logger {
	return logger.With().Str("part", name).Logger()
}

// withPatience calls a Shutdown with the time that it may take.
func withPatience(shutdown func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), stopPatience)
	defer cancel()
	return shutdown(ctx)
}

func replicationOptions(cfg *Config, metrics prometheus.Registerer, logger zerolog.Logger) replication.Options {
	history := cfg.Store.HistoryChanges
	if history == 0 {
		history = -1 // to the store, 0 is its default
	}
	scrub := cfg.Store.ScrubInterval
	if scrub == 0 {
		scrub = -1 // to the node, 0 is its default
	}
	return replication.Options{
		Dir:           cfg.DataDir,
		NodeID:        cfg.NodeID,
		Region:        cfg.Region,
		Group:         cfg.ReplicaGroup,
		GroupProtocol: cfg.Kafka.GroupProtocol,
		KeepLeft:      cfg.Store.KeepLeft,
		ScrubInterval: scrub,
		Log: mutationlog.Options{
			Namespace:  cfg.Namespace,
			Brokers:    cfg.Brokers,
			Partitions: int32(cfg.Partitions),
		},
		Store: store.Options{
			HotBytes:       cfg.Store.HotZones,
			HistoryChanges: history,
			HistoryAge:     cfg.Store.HistoryAge,
			Reserve:        uint64(cfg.Store.DiskReserve),
			CrashPoint:     crashPoint(),
			Logger:         part(logger, "store"),
		},
		Metrics: metrics,
		Logger:  logger,
	}
}

// peerOptions are how the other nodes of the region are known and asked.
func peerOptions(cfg *Config) (replication.PeerOptions, error) {
	o := replication.PeerOptions{
		GossipListen: cfg.Gossip.Listen, GossipAdvertise: cfg.Gossip.Advertise, Join: cfg.Gossip.Join, Key: cfg.Gossip.key(),
		RelayListen: cfg.Relay.Listen, RelayAdvertise: cfg.Relay.Advertise,
		Admin: cfg.Admin.Listen, Version: programVersion(),
	}
	if len(cfg.DNS.Listen) > 0 {
		o.DNS = cfg.DNS.Listen[0]
	}
	if cfg.Relay.CA == "" {
		return o, nil
	}
	var err error
	o.Identity, err = relay.LoadIdentity(cfg.Relay.CA, cfg.Relay.Cert, cfg.Relay.Key)
	return o, err
}

// longestOutage is how long a node may be away and find its place in the log again.
const longestOutage = 24 * time.Hour

func kafkaSecurity(cfg *Config) mutationlog.Security {
	k := cfg.Kafka
	s := mutationlog.Security{
		TLS: k.TLS, CA: k.CA, Cert: k.Cert, Key: k.Key, ServerName: k.ServerName,
		User: k.User, Password: k.Password, Rack: k.Rack,
	}
	if k.SASL != "none" {
		s.SASL = k.SASL
	}
	return s
}

func backupOptions(ctx context.Context, cfg *Config) (replication.BackupOptions, error) {
	b := cfg.Backup
	if b.URL == "" {
		return replication.BackupOptions{}, nil
	}
	objects, err := objectstore.Open(ctx, b.URL)
	if err != nil {
		return replication.BackupOptions{}, err
	}
	return replication.BackupOptions{Objects: objects, Create: b.Create, Restore: b.Restore, Interval: b.Interval, Keep: b.Keep}, nil
}

func dnsSettings(cfg *Config, secrets [][16]byte) dnsserver.Settings {
	s := dnsserver.Settings{
		UDPSize:        cfg.DNS.EDNSSize,
		RequireCookies: cfg.DNS.RequireCookies,
		RateLimit: dnsserver.RateLimit{
			PerSecond: cfg.DNS.RRL.Rate,
			Burst:     cfg.DNS.RRL.Burst,
			Slip:      cfg.DNS.RRL.Slip,
			Exempt:    parseNetworks(cfg.DNS.RRL.Exempt),
		},
		TCP: dnsserver.TCPSettings{
			Connections: cfg.DNS.TCP.Connections,
			PerNetwork:  cfg.DNS.TCP.PerNetwork,
			Pipeline:    cfg.DNS.TCP.Pipeline,
			Idle:        cfg.DNS.TCP.IdleTimeout,
			Write:       cfg.DNS.TCP.WriteTimeout,
		},
	}
	if s.RateLimit.Slip == 0 {
		s.RateLimit.Slip = -1 // to the server, 0 is its default
	}
	identity := firstOf(cfg.DNS.Identity, cfg.NodeID)
	if cfg.DNS.NSID {
		s.NSID = identity
	}
	if !cfg.DNS.HideIdentity {
		s.Identity = identity
	}
	if !cfg.DNS.HideVersion {
		s.Version = firstOf(cfg.DNS.Version, "Balefire "+programVersion())
	}
	if cfg.DNS.Cookies {
		for _, secret := range secrets {
			s.CookieSecrets = append(s.CookieSecrets, secret)
		}
	}
	return s
}

// readyPoll is how often a node that starts is asked whether it is ready.
const readyPoll = 5 * time.Millisecond

// waitUntilReady returns when the node is ready, what is in the way has stayed the same for the time given, or patience ends.
func waitUntilReady(ctx context.Context, node *replication.Node, patience time.Duration, logger zerolog.Logger) {
	ctx, cancel := context.WithTimeout(ctx, readyPatience)
	defer cancel()
	tick := time.NewTicker(readyPoll)
	defer tick.Stop()
	stuck := time.NewTimer(patience)
	defer stuck.Stop()
	var before []string
	for {
		ready, reasons := node.Ready()
		if ready {
			return
		}
		if !slices.Equal(reasons, before) {
			before = reasons
			stuck.Reset(patience)
		}
		select {
		case <-tick.C:
			continue
		case <-stuck.C:
		case <-ctx.Done():
		}
		logger.Warn().Strs("reasons", reasons).Msg("not ready; answering from what there is")
		return
	}
}

// announce says where everything is, and what to type next.
func announce(out io.Writer, cfg *Config, server *dnsserver.Server, url string, sample bool) {
	fmt.Fprintf(out, "Balefire %s is ready.\n\n", programVersion())
	var first string
	for _, a := range server.Addrs() {
		if first == "" {
			first = a.String()
		}
		fmt.Fprintf(out, "  DNS    %s (UDP and TCP)\n", a)
	}
	for _, a := range server.TLSAddrs() {
		fmt.Fprintf(out, "  DNS    %s (TLS)\n", a)
	}
	fmt.Fprintf(out, "  admin  %s\n", url)
	fmt.Fprintf(out, "  data   %s\n", cfg.DataDir)
	if cfg.Token != "" {
		fmt.Fprintf(out, "  token  as configured\n")
	} else {
		fmt.Fprintf(out, "  token  %s\n", filepath.Join(cfg.DataDir, admin.TokenFile))
	}
	host, port, err := net.SplitHostPort(first)
	if err != nil {
		return
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	program := os.Args[0]
	options := ""
	if url != defaultServer {
		options += " --server " + url
	}
	if cfg.DataDir != defaultConfig().DataDir && cfg.Token == "" {
		options += " --data-dir " + cfg.DataDir
	}
	fmt.Fprint(out, "\nTo try, in another terminal:\n")
	if !sample {
		fmt.Fprintf(out, "  %s zone create example.com. --ns ns1.example.net.%s\n", program, options)
	}
	fmt.Fprintf(out, "  dig @%s -p %s www.example.com A\n", host, port)
	fmt.Fprintf(out, "  %s record set example.com. www A 300 192.0.2.7 192.0.2.8%s\n", program, options)
	fmt.Fprintf(out, "  %s zone list%s\n", program, options)
}

// importSample gives a new node something to answer with. What fails is said, and stops nothing.
func importSample(ctx context.Context, path, url, secret string, out io.Writer, logger zerolog.Logger) {
	files, err := zoneFiles([]string{path})
	if err != nil {
		logger.Error().Err(err).Msg("no sample zones")
		return
	}
	conn := connection{server: url, timeout: time.Minute}
	c, err := conn.dialWith(secret)
	if err != nil {
		logger.Error().Err(err).Msg("no sample zones")
		return
	}
	for _, r := range importAll(ctx, c, files, importOptions{onlyNew: true}, nil, nil) {
		switch r.Result {
		case "failed":
			logger.Error().Str("file", r.File).Str("error", r.Error).Msg("a sample zone can't be imported")
		case "kept":
		default:
			fmt.Fprintf(out, "sample zone %s %s, %d records\n", r.Zone, r.Result, r.Records)
		}
	}
}
