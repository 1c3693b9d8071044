package apptest

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// storageNode is a vmstorage process with fixed ports, so that it can be started again.
type storageNode struct {
	*process
	http, insert, sel string // addresses
	data              string
	toInsert, toSel   *proxy // before insert and sel, which are then the addresses of these
}

// startStorage starts a vmstorage.
func startStorage(t testing.TB, name string, args ...string) *storageNode {
	t.Helper()
	return startStorageIn(t, nil, spec{name: name, binary: "vmstorage", args: args})
}

// startStorageIn starts a vmstorage of some build in a network; nil means that of the tests.
func startStorageIn(t testing.TB, in *netns, s spec) *storageNode {
	t.Helper()
	host := "127.0.0.1"
	if in != nil {
		host = in.addr
	}
	addr := func() string { return net.JoinHostPort(host, strconv.Itoa(freePort(t))) }
	n := &storageNode{http: addr(), insert: addr(), sel: addr(), data: t.TempDir()}
	s.args = append([]string{
		"-storageDataPath=" + n.data, "-httpListenAddr=" + n.http, "-vminsertAddr=" + n.insert, "-vmselectAddr=" + n.sel, "-retentionPeriod=100y",
	}, s.args...)
	if in != nil {
		s = in.inside(s)
	}
	n.process = start(t, s)
	return n
}

// ready waits until the node takes requests.
func (n *storageNode) ready() {
	n.t.Helper()
	n.waitLog(`^accepting vminsert conns at `)
	n.waitLog(`^accepting vmselect conns at `)
	n.httpAddr()
}

// restart starts the node again after it has ended.
func (n *storageNode) restart() {
	n.t.Helper()
	n.run()
	n.ready()
}

// flush makes everything received searchable and durable.
func (n *storageNode) flush() {
	n.t.Helper()
	get(n.t, "http://"+n.http+"/internal/force_flush").want(n.t, http.StatusOK)
}

// cluster is some storage nodes with an insert and a select node before them.
type cluster struct {
	t          testing.TB
	storage    []*storageNode
	insert     *process
	sel        *process
	insertAddr string
	selectAddr string
}

// clusterOptions are flags besides the necessary ones.
type clusterOptions struct {
	nodes                               int // storage nodes; 0 means 2
	storageArgs, insertArgs, selectArgs []string
	firstArgs                           []string // of the first storage node, besides storageArgs
	firstIn                             *netns   // where the first storage node runs
	insertEnv                           []string
	binary                              func(process string) string // "vmstorage-1", "vminsert", "vmselect" and so on; nil: those under test
	proxies                             bool                        // before the storage nodes
}

// startCluster starts a cluster and waits until all of it is connected.
func startCluster(t testing.TB, o clusterOptions) *cluster {
	t.Helper()
	if o.binary == nil {
		o.binary = func(process string) string { name, _, _ := strings.Cut(process, "-"); return name }
	}
	c := &cluster{t: t, insertAddr: freeAddr(t), selectAddr: freeAddr(t)}
	insertArgs := append([]string{"-httpListenAddr=" + c.insertAddr}, o.insertArgs...)
	selectArgs := append([]string{"-httpListenAddr=" + c.selectAddr}, o.selectArgs...)
	for i := range cmp.Or(o.nodes, 2) {
		s, in := spec{name: fmt.Sprintf("vmstorage-%d", i+1), args: slices.Clone(o.storageArgs)}, (*netns)(nil)
		s.binary = o.binary(s.name)
		if i == 0 {
			s.args, in = append(s.args, o.firstArgs...), o.firstIn
		}
		n := startStorageIn(t, in, s)
		if o.proxies {
			n.toInsert, n.toSel = startProxy(t, n.insert), startProxy(t, n.sel)
			n.insert, n.sel = n.toInsert.addr, n.toSel.addr
		}
		c.storage = append(c.storage, n)
		insertArgs = append(insertArgs, "-storageNode="+n.insert)
		selectArgs = append(selectArgs, "-storageNode="+n.sel)
	}
	for _, n := range c.storage {
		n.ready()
	}
	c.insert = start(t, spec{binary: o.binary("vminsert"), args: insertArgs, env: o.insertEnv})
	c.sel = start(t, spec{binary: o.binary("vmselect"), args: selectArgs})
	c.insert.httpAddr()
	c.sel.httpAddr()
	for _, n := range c.storage {
		c.insert.waitLog(dialed(n.insert))
		c.sel.waitLog(dialed(n.sel))
	}
	return c
}

// dialed matches the message about a connection to a storage node.
func dialed(addr string) string {
	return `^successfully dialed -storageNode="` + strings.ReplaceAll(addr, ".", `\.`) + `"$`
}

// writeURL returns the root of a tenant's write paths.
func (c *cluster) writeURL(tenant string) string {
	return "http://" + c.insertAddr + "/insert/" + tenant + "/prometheus"
}

// readURL returns the root of a tenant's read paths.
func (c *cluster) readURL(tenant string) string {
	return "http://" + c.selectAddr + "/select/" + tenant + "/prometheus"
}

func (c *cluster) flush() {
	c.t.Helper()
	for _, n := range c.storage {
		n.flush()
	}
}

// waitWhole waits until vmselect reaches all storage nodes.
func (c *cluster) waitWhole() {
	c.t.Helper()
	eventually(c.t, patience, "answers that are not partial", func() error {
		a, err := do(http.MethodGet, c.readURL("0")+"/api/v1/labels", nil)
		if err != nil {
			return err
		}
		if !strings.Contains(a.body, `"isPartial":false`) {
			return errors.New(a.String())
		}
		return nil
	})
}

// single is a victoria-metrics process with a fixed port.
type single struct {
	*process
	addr string
	data string
}

func startSingle(t testing.TB, args ...string) *single {
	t.Helper()
	s := &single{addr: freeAddr(t), data: t.TempDir()}
	s.process = start(t, spec{binary: "victoria-metrics", args: append([]string{
		"-storageDataPath=" + s.data, "-httpListenAddr=" + s.addr, "-retentionPeriod=100y",
	}, args...)})
	s.httpAddr()
	return s
}

// url returns the root of the paths, with or without /prometheus.
func (s *single) url(prefix string) string { return "http://" + s.addr + prefix }

func (s *single) restart() {
	s.t.Helper()
	s.run()
	s.httpAddr()
}
