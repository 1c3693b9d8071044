package apptest

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"vmcluster/lib/certfiles/certtest"
)

// nodeFlags are the flags for mutual TLS between the nodes.
func nodeFlags(f certtest.Files) []string {
	return []string{"-cluster.tls", "-cluster.tlsCertFile=" + f.Cert, "-cluster.tlsKeyFile=" + f.Key, "-cluster.tlsCAFile=" + f.CA}
}

// secureCluster is a cluster with mutual TLS between all nodes, whose insert and select node listen at a second address for HTTPS.
type secureCluster struct {
	*cluster
	ca                      *certtest.CA
	dirs                    []string // of the certificates: storage nodes (which share one), vminsert, vmselect
	secureInsert, secureSel string
}

func startSecureCluster(t *testing.T) *secureCluster {
	t.Helper()
	c := &secureCluster{ca: certtest.NewCA(t, "first"), secureInsert: freeAddr(t), secureSel: freeAddr(t)}
	var flags [3][]string
	extra := [3][]string{{"-storage.vminsertConnsShutdownDuration=1s"}}
	for i := range flags {
		c.dirs = append(c.dirs, t.TempDir())
		f := c.ca.Write(t, c.dirs[i], certtest.Leaf{})
		flags[i] = append(nodeFlags(f), extra[i]...)
		if i > 0 {
			addr := []string{c.secureInsert, c.secureSel}[i-1]
			flags[i] = append(flags[i], "-httpListenAddr="+addr, "-tls=false,true", "-tlsCertFile="+f.Cert, "-tlsKeyFile="+f.Key)
		}
	}
	c.cluster = startCluster(t, clusterOptions{storageArgs: flags[0], insertArgs: flags[1], selectArgs: flags[2]})
	return c
}

// httpAddrs are the plain HTTP addresses of those who share a folder of certificates.
func (c *secureCluster) httpAddrs(dir int) []string {
	switch dir {
	case 1:
		return []string{c.insertAddr}
	case 2:
		return []string{c.selectAddr}
	}
	var addrs []string
	for _, n := range c.storage {
		addrs = append(addrs, n.http)
	}
	return addrs
}

// replace changes the files of all nodes, one kind of node after the other, and waits until they are in use.
func (c *secureCluster) replace(change func(dir string)) {
	c.t.Helper()
	loaded := map[string]float64{}
	for i, dir := range c.dirs {
		for _, addr := range c.httpAddrs(i) {
			loaded[addr] = mustMetric(c.t, addr, "vm_tls_files_loaded_total", `flag="cluster.tls"`)
		}
		change(dir)
		for _, addr := range c.httpAddrs(i) {
			waitMetric(c.t, loaded[addr]+1, addr, "vm_tls_files_loaded_total", `flag="cluster.tls"`)
		}
	}
}

// over returns a client which trusts a CA.
func over(t *testing.T, ca *certtest.CA) *http.Client {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca.PEM)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: patience}
}

// TestSecureCluster writes and reads by HTTPS through a cluster with mutual TLS, and replaces all certificates and the CA under load.
func TestSecureCluster(t *testing.T) {
	t.Parallel()
	c := startSecureCluster(t)
	outside := over(t, c.ca)
	resp, err := outside.Post("https://"+c.secureInsert+"/insert/0/prometheus/api/v1/write", "application/x-protobuf", bytes.NewReader(snappyBody(series("__name__", "secure").at(fixed, 42))))
	if err != nil {
		t.Fatal(err)
	}
	if resp.Body.Close(); resp.StatusCode != http.StatusNoContent {
		t.Errorf("a write by HTTPS is answered %s", resp.Status)
	}
	c.flush()
	resp, err = outside.Get("https://" + c.secureSel + "/select/0/prometheus/api/v1/export?match[]=secure")
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if resp.Body.Close(); err != nil || !strings.Contains(string(body), `"values":[42]`) {
		t.Errorf("a read by HTTPS is answered %s %q, %v", resp.Status, body, err)
	}
	plain := get(t, "http://"+c.secureSel+"/health")
	plain.want(t, http.StatusBadRequest, "HTTP request to an HTTPS server")
	c.testStrangers(t)
	for _, n := range c.storage {
		if end := mustMetric(t, n.http, "vm_tls_certificate_expiry_timestamp_seconds", `flag="cluster.tlsCertFile"`); end <= float64(time.Now().Unix()) {
			t.Errorf("the certificate ends at %v", end)
		}
	}

	next := certtest.NewCA(t, "next")
	l := startLoad(t, c.writeURL("0"))
	l.waitAcked(t, 20)
	both := append(bytes.Clone(c.ca.PEM), next.PEM...)
	c.replace(func(dir string) { certtest.WriteFile(t, filepath.Join(dir, "ca.pem"), both) })
	c.restartNode(l, 0)
	c.replace(func(dir string) {
		cert, key := next.Issue(t, certtest.Leaf{})
		certtest.WriteFile(t, filepath.Join(dir, "cert.pem"), cert)
		certtest.WriteFile(t, filepath.Join(dir, "key.pem"), key)
	})
	c.restartNode(l, 1)
	c.replace(func(dir string) { certtest.WriteFile(t, filepath.Join(dir, "ca.pem"), next.PEM) })
	c.restartNode(l, 0)
	l.stop()
	if n := l.failed.Load(); n > 0 {
		t.Errorf("%d writes failed while certificates were replaced: %v", n, l.last)
	}
	c.flush()
	c.waitWhole()
	l.check(t, c.readURL("0"))
	c.testStrangers(t) // with certificates of the CA which is gone
}

// restartNode restarts a storage node in an orderly way and waits until both of its peers are connected again.
func (c *secureCluster) restartNode(l *load, i int) {
	c.t.Helper()
	n := c.storage[i]
	n.stop(syscall.SIGTERM)
	n.restart()
	waitMetric(c.t, 1, c.insertAddr, "vm_rpc_vmstorage_is_reachable", fmt.Sprintf("addr=%q", n.insert))
	waitMetric(c.t, 1, c.selectAddr, "vm_tcpdialer_addr_available", fmt.Sprintf("addr=%q", n.sel))
	l.waitAcked(c.t, 20)
}

// testStrangers comes to the ports of the nodes without a certificate that they take: not a byte of the protocol comes back.
func (c *secureCluster) testStrangers(t *testing.T) {
	t.Helper()
	foreign := certtest.NewCA(t, "foreign")
	pair := func(ca *certtest.CA, leaf certtest.Leaf) []tls.Certificate {
		cert, key := ca.Issue(t, leaf)
		p, err := tls.X509KeyPair(cert, key)
		if err != nil {
			t.Fatal(err)
		}
		return []tls.Certificate{p}
	}
	n := c.storage[0]
	errors := func() float64 { return mustMetric(t, n.http, "vm_rpc_handshake_errors_total") }
	for _, addr := range []string{n.insert, n.sel} {
		for name, certs := range map[string][]tls.Certificate{
			"no": nil, "a foreign": pair(foreign, certtest.Leaf{}), "an expired": pair(c.ca, certtest.Leaf{NotAfter: time.Now().Add(-time.Hour)}),
		} {
			before := errors()
			config := &tls.Config{InsecureSkipVerify: true}
			if certs != nil {
				config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &certs[0], nil }
			}
			if got, err := knock(t, addr, config); err == nil || len(got) > 0 {
				t.Errorf("with %s certificate %s answers %q, %v", name, addr, got, err)
			}
			eventually(t, patience, "a count of those who came with "+name+" certificate", func() error { // the client may hear first
				if errors() == before {
					return fmt.Errorf("it is still %v", before)
				}
				return nil
			})
		}
		if got, _ := knock(t, addr, nil); bytes.Contains(got, []byte("VMCL")) {
			t.Errorf("without TLS %s answers %q", addr, got)
		}
	}
}

// knock says hello to a port of the nodes, over TLS if there is a configuration, and returns what comes back.
func knock(t *testing.T, addr string, config *tls.Config) ([]byte, error) {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if config != nil {
		secured := tls.Client(conn, config)
		if err := secured.Handshake(); err != nil {
			return nil, err
		}
		conn = secured
	}
	hello := append([]byte("VMCL-RPC\x00\x01\x00\x01\x01"), make([]byte, 23)...)
	if _, err := conn.Write(hello); err != nil {
		return nil, err
	}
	return io.ReadAll(conn)
}

// TestTLSOnOneSide: both sides say which flag is missing, and writes are refused at once.
func TestTLSOnOneSide(t *testing.T) {
	t.Parallel()
	f := certtest.NewCA(t, "ca").Write(t, t.TempDir(), certtest.Leaf{})
	for _, tc := range []struct {
		name              string
		storage, peer     []string
		atPeer, atStorage string
	}{
		{"storage only", nodeFlags(f), nil, "the node speaks TLS only: set -cluster.tls here", "the peer does not use TLS: set -cluster.tls at vm(insert|select)"},
		{"peers only", nil, nodeFlags(f), "the node does not speak TLS: set -cluster.tls there", "this node was started without -cluster.tls; set it here"},
		{"no certificate at peers", nodeFlags(f), []string{"-cluster.tls", "-cluster.tlsCAFile=" + f.CA}, "check -cluster.tlsCertFile", "see -cluster.tlsCertFile at vm"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			n := startStorage(t, "vmstorage", tc.storage...)
			n.ready()
			insert := start(t, spec{binary: "vminsert", args: append([]string{"-httpListenAddr=127.0.0.1:0", "-storageNode=" + n.insert}, tc.peer...)})
			sel := start(t, spec{binary: "vmselect", args: append([]string{"-httpListenAddr=127.0.0.1:0", "-storageNode=" + n.sel}, tc.peer...)})
			insertAddr, selectAddr := insert.httpAddr(), sel.httpAddr()
			a, err := remoteWrite("http://"+insertAddr+"/insert/0/prometheus/api/v1/write", series("__name__", "m").at(fixed, 1))
			if err != nil {
				t.Fatal(err)
			}
			a.want(t, http.StatusServiceUnavailable, tc.atPeer)
			get(t, "http://"+selectAddr+"/select/0/prometheus/api/v1/labels").want(t, http.StatusServiceUnavailable, tc.atPeer)
			n.waitLog(tc.atStorage)
			waitMetric(t, 1, insertAddr, "vm_rpc_handshake_errors_total")
			waitMetric(t, 1, selectAddr, "vm_rpc_handshake_errors_total")
			waitMetric(t, 2, n.http, "vm_rpc_handshake_errors_total")
		})
	}
}

// TestTurningTLSOn takes a cluster from plain connections to mutual TLS under load, as docs/security.md says. No write fails.
func TestTurningTLSOn(t *testing.T) {
	t.Parallel()
	f := certtest.NewCA(t, "ca").Write(t, t.TempDir(), certtest.Leaf{})
	c := startCluster(t, clusterOptions{storageArgs: []string{"-storage.vminsertConnsShutdownDuration=1s"}})
	before := startLoad(t, c.writeURL("0"))
	before.waitAcked(t, 20)
	restart := func(l *load, change func(args []string) []string) {
		t.Helper()
		for _, n := range c.storage {
			n.stop(syscall.SIGTERM)
			n.spec.args = change(n.spec.args)
			n.restart()
			waitMetric(t, 1, c.insertAddr, "vm_rpc_vmstorage_is_reachable", fmt.Sprintf("addr=%q", n.insert))
			waitMetric(t, 1, c.selectAddr, "vm_tcpdialer_addr_available", fmt.Sprintf("addr=%q", n.sel))
			l.waitAcked(t, 20)
		}
	}
	plain := func() (sum float64) {
		for _, n := range c.storage {
			sum += mustMetric(t, n.http, "vm_rpc_plain_conns")
		}
		return sum
	}
	restart(before, func(args []string) []string { return append(append(args, nodeFlags(f)...), "-cluster.tlsOptional") })
	if n := plain(); n != 4 {
		t.Errorf("%g connections are plain; want 4", n)
	}

	formerInsert, formerSelect := c.insert, c.sel
	other := func(p *process, addr *string) *process {
		*addr = freeAddr(t)
		args := append(slices.Clone(p.spec.args), nodeFlags(f)...)
		args[slices.IndexFunc(args, func(a string) bool { return strings.HasPrefix(a, "-httpListenAddr=") })] = "-httpListenAddr=" + *addr
		next := start(t, spec{binary: p.spec.binary, args: args})
		next.httpAddr()
		return next
	}
	c.insert, c.sel = other(formerInsert, &c.insertAddr), other(formerSelect, &c.selectAddr)
	for _, n := range c.storage {
		c.insert.waitLog(dialed(n.insert))
		c.sel.waitLog(dialed(n.sel))
	}
	after := startLoad(t, c.writeURL("1"))
	after.waitAcked(t, 20)
	before.stop()
	formerInsert.stop(syscall.SIGTERM)
	formerSelect.stop(syscall.SIGTERM)
	eventually(t, patience, "no connection is plain", func() error {
		if n := plain(); n > 0 {
			return fmt.Errorf("%g are", n)
		}
		return nil
	})
	restart(after, func(args []string) []string { return args[:len(args)-1] })
	after.stop()
	for _, l := range []*load{before, after} {
		if n := l.failed.Load(); n > 0 {
			t.Errorf("%d writes failed: %v", n, l.last)
		}
	}
	c.flush()
	c.waitWhole()
	before.check(t, c.readURL("0"))
	after.check(t, c.readURL("1"))
	if got, _ := knock(t, c.storage[0].insert, nil); bytes.Contains(got, []byte("VMCL")) {
		t.Errorf("without TLS %q comes back", got)
	}
}
