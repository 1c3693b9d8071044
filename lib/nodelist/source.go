package nodelist

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"

	"vmcluster/lib/fileurl"
)

// Node is a storage node.
type Node struct {
	Group string // of nodes that share a replication factor; mostly empty
	Name  string // as given, without the group: the node's identity
	Addr  string // what is dialled: the name with a port
}

// String returns the node as it is given with -storageNode.
func (n Node) String() string {
	if n.Group == "" {
		return n.Name
	}
	return n.Group + "/" + n.Name
}

// DialContext opens a TCP connection to the node. The address argument is the node's name and not needed.
func (n Node) DialContext(ctx context.Context, _ string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "tcp", n.Addr)
}

// kind is where a source finds nodes.
type kind uint8

const (
	kindStatic kind = iota
	kindFile
	kindSRV
	kindDNS
)

// source is one value of -storageNode.
type source struct {
	text  string // as given
	kind  kind
	group string
	rest  string // the value without group and kind
}

// parseSource reads a value of -storageNode: [group/]host:port, [group/]file:<path or URL>, [group/]srv+name or [group/]dns+host:port.
func parseSource(text string) (source, error) {
	s := source{text: text, rest: text}
	prefixes := []struct {
		prefix string
		kind   kind
	}{{"file:", kindFile}, {"srv+", kindSRV}, {"dns+", kindDNS}}
	discovers := func() bool {
		for _, p := range prefixes {
			if rest, ok := strings.CutPrefix(s.rest, p.prefix); ok {
				s.kind, s.rest = p.kind, rest
				return true
			}
		}
		return false
	}
	if group, rest, ok := strings.Cut(text, "/"); !discovers() && ok {
		s.group, s.rest = group, rest
		if group == "" || strings.ContainsAny(group, " \t:,") {
			return s, fmt.Errorf("cannot parse -storageNode=%q: the name of the group, %q, is empty or has a space, colon or comma", text, group)
		}
		discovers()
	}
	if s.rest == "" || s.kind != kindFile && strings.ContainsAny(s.rest, " \t/") {
		return s, fmt.Errorf("cannot parse -storageNode=%q: want host:port, file:<path or URL>, srv+<name> or dns+<host>:<port>, all of them with group/ before it or not", text)
	}
	return s, nil
}

// node makes a node of an address.
func node(group, name, defaultPort string) Node {
	n := Node{Group: group, Name: name, Addr: name}
	if _, _, err := net.SplitHostPort(name); err != nil {
		n.Addr = net.JoinHostPort(strings.Trim(name, "[]"), defaultPort)
	}
	return n
}

// Resolver asks the DNS. *net.Resolver is one.
type Resolver interface {
	LookupSRV(ctx context.Context, service, proto, name string) (cname string, addrs []*net.SRV, err error)
	LookupHost(ctx context.Context, host string) (addrs []string, err error)
}

// discover returns the nodes which a source names at this moment, sorted. None at all is an error.
func (l *List) discover(ctx context.Context, s *source) ([]Node, error) {
	var nodes []Node
	var err error
	switch s.kind {
	case kindFile:
		nodes, err = l.readFile(ctx, s)
	case kindSRV:
		nodes, err = l.lookupSRV(ctx, s)
	default:
		nodes, err = l.lookupHost(ctx, s)
	}
	if err == nil && l.filter != nil {
		nodes = slices.DeleteFunc(nodes, func(n Node) bool { return !l.filter.MatchString(n.Name) })
	}
	if err == nil && len(nodes) == 0 {
		err = errors.New("it names none that -storageNode.filter lets through")
	}
	if err != nil {
		return nil, fmt.Errorf("cannot find storage nodes by -storageNode=%q: %w", s.text, err)
	}
	slices.SortFunc(nodes, func(a, b Node) int { return strings.Compare(a.String(), b.String()) })
	return nodes, nil
}

// maxFileBytes bounds what is read from a file or a URL.
const maxFileBytes = 16 << 20

func (l *List) readFile(ctx context.Context, s *source) ([]Node, error) {
	data, err := fileurl.Read(ctx, s.rest, maxFileBytes)
	if err != nil {
		return nil, err
	}
	return parseNodes(bytes.NewReader(data), s.group, l.defaultPort)
}

// parseNodes reads a node per line; what follows # is a comment. Nodes without a group get that of the source.
func parseNodes(in io.Reader, group, defaultPort string) ([]Node, error) {
	var nodes []Node
	lines := bufio.NewScanner(in)
	for number := 1; lines.Scan(); number++ {
		text, _, _ := strings.Cut(lines.Text(), "#")
		if text = strings.TrimSpace(text); text == "" {
			continue
		}
		s, err := parseSource(text)
		if err == nil && s.kind != kindStatic {
			err = fmt.Errorf("%q is no address", text)
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", number, err)
		}
		if s.group == "" {
			s.group = group
		}
		nodes = append(nodes, node(s.group, s.rest, defaultPort))
	}
	return nodes, lines.Err()
}

func (l *List) lookupSRV(ctx context.Context, s *source) ([]Node, error) {
	_, records, err := l.resolver.LookupSRV(ctx, "", "", s.rest)
	if err != nil {
		return nil, err
	}
	var nodes []Node
	for _, r := range records {
		nodes = append(nodes, node(s.group, net.JoinHostPort(strings.TrimSuffix(r.Target, "."), strconv.Itoa(int(r.Port))), l.defaultPort))
	}
	return nodes, nil
}

func (l *List) lookupHost(ctx context.Context, s *source) ([]Node, error) {
	host, port, err := net.SplitHostPort(s.rest)
	if err != nil {
		host, port = s.rest, l.defaultPort
	}
	ips, err := l.resolver.LookupHost(ctx, host)
	if err != nil {
		return nil, err
	}
	var nodes []Node
	for _, ip := range ips {
		nodes = append(nodes, node(s.group, net.JoinHostPort(ip, port), l.defaultPort))
	}
	return nodes, nil
}
