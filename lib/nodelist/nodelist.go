package nodelist

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"regexp"
	"slices"
	"strings"
	"time"

	"vmcluster/lib/flagvalue"
	"vmcluster/lib/logger"
	"vmcluster/lib/metrics"
)

// Config says which nodes there are, or where to find them.
type Config struct {
	Nodes    flagvalue.Strings
	Interval flagvalue.Duration // not above 0: sources are read at the start only
	Filter   string
}

// RegisterFlags registers -storageNode, whose addresses are those of the nodes' flag listenFlag, and -storageNode.*.
func (c *Config) RegisterFlags(fs *flag.FlagSet, listenFlag string) {
	fs.Var(&c.Nodes, "storageNode", "Address of a vmstorage node, host:port of its -"+listenFlag+"; must be given at least once and may be repeated. "+
		"Also where to find addresses: file:<path or URL> with one per line, srv+<name> for SRV records, dns+<host>:<port> for all addresses of a host. "+
		"group/ before any of them makes groups of nodes, see -replicationFactor")
	c.Interval = flagvalue.Duration(2 * time.Second)
	fs.Var(&c.Interval, "storageNode.discoveryInterval", "How often files, URLs and DNS names given with -storageNode are looked up again")
	fs.StringVar(&c.Filter, "storageNode.filter", "", "Regular expression: of the addresses found in files, at URLs and by DNS only those which match are used, for example '^[^:]+:8401$'")
}

// Options are the arguments of New.
type Options struct {
	Config      *Config
	DefaultPort string // of addresses without
	Resolver    Resolver
	Logger      *logger.Logger
	Metrics     *metrics.Set
}

// List is the nodes, as they were found last.
type List struct {
	interval    time.Duration
	defaultPort string
	resolver    Resolver
	filter      *regexp.Regexp // nil: all
	logger      *logger.Logger
	warn        *logger.Throttle
	failures    *metrics.Counter
	changes     *metrics.Counter

	static  []Node
	sources []source // which discover
	found   [][]Node // by each of them, last
	nodes   []Node
}

// warnInterval is the least time between warnings about sources that cannot be read.
const warnInterval = time.Minute

// lookupTimeout bounds a look-up of all sources.
const lookupTimeout = 10 * time.Second

// New parses the configuration and finds the nodes. It is an error when there is none, or when one is given twice.
func New(ctx context.Context, o Options) (*List, error) {
	l := &List{interval: o.Config.Interval.D(), defaultPort: o.DefaultPort, resolver: o.Resolver, logger: o.Logger, warn: logger.NewThrottle(o.Logger, warnInterval)}
	if l.resolver == nil {
		l.resolver = net.DefaultResolver
	}
	if o.Config.Filter != "" {
		var err error
		if l.filter, err = regexp.Compile(o.Config.Filter); err != nil {
			return nil, fmt.Errorf("cannot parse -storageNode.filter=%q: %w", o.Config.Filter, err)
		}
	}
	for _, text := range o.Config.Nodes {
		if err := l.give(text); err != nil {
			return nil, err
		}
	}
	l.found = make([][]Node, len(l.sources))
	if len(l.static)+len(l.sources) == 0 {
		return nil, errors.New("no storage nodes: give at least one -storageNode=host:port")
	}
	if len(l.sources) > 0 {
		l.failures = o.Metrics.Counter("vm_storage_node_discovery_errors_total")
		l.changes = o.Metrics.Counter("vm_storage_node_changes_total")
		if err := l.refresh(ctx); err != nil && len(l.nodes) == 0 {
			return nil, err
		}
		return l, nil
	}
	l.nodes = l.static
	return l, nil
}

// give takes one value of -storageNode.
func (l *List) give(text string) error {
	s, err := parseSource(text)
	if err != nil {
		return err
	}
	if s.kind != kindStatic {
		l.sources = append(l.sources, s)
		return nil
	}
	n := node(s.group, s.rest, l.defaultPort)
	if slices.ContainsFunc(l.static, func(other Node) bool { return other.Addr == n.Addr }) {
		return fmt.Errorf("-storageNode=%q is given twice; every storage node must be listed once", text)
	}
	l.static = append(l.static, n)
	return nil
}

// Nodes returns the nodes which were found last.
func (l *List) Nodes() []Node { return slices.Clone(l.nodes) }

// refresh looks all sources up. The error is that of the last one which failed, whose nodes of before stay.
func (l *List) refresh(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	var failure error
	for i := range l.sources {
		nodes, err := l.discover(ctx, &l.sources[i])
		if err != nil {
			l.failures.Inc()
			failure = err
			continue
		}
		l.found[i] = nodes
	}
	nodes := slices.Clone(l.static)
	for _, list := range l.found {
		for _, n := range list {
			if !slices.ContainsFunc(nodes, func(other Node) bool { return other.Addr == n.Addr }) {
				nodes = append(nodes, n)
			}
		}
	}
	l.nodes = nodes
	return failure
}

// Run looks the sources up again and again until ctx is done, and calls f with the nodes whenever they are others than before. When
// f returns an error, it is logged and f is called again the next time.
func (l *List) Run(ctx context.Context, f func([]Node) error) {
	if len(l.sources) == 0 || l.interval <= 0 {
		return
	}
	used := l.nodes
	ticker := time.NewTicker(l.interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if err := l.refresh(ctx); err != nil && ctx.Err() == nil {
			l.warn.Warnf("%s; the nodes found before are kept", err)
		}
		if slices.Equal(used, l.nodes) || ctx.Err() != nil {
			continue
		}
		if err := f(l.Nodes()); err != nil {
			l.warn.Warnf("cannot use other storage nodes: %s", err)
			continue
		}
		l.changes.Inc()
		l.logger.Infof("storage nodes have changed: %s", difference(used, l.nodes))
		used = l.nodes
	}
}

// difference says which nodes have come and gone.
func difference(before, after []Node) string {
	only := func(a, b []Node) string {
		var names []string
		for _, n := range a {
			if !slices.Contains(b, n) {
				names = append(names, n.String())
			}
		}
		if len(names) == 0 {
			return "none"
		}
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%d nodes now; new: %s; gone: %s", len(after), only(after, before), only(before, after))
}
