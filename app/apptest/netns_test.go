package apptest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// netns is a network of its own, joined with that of the tests by a line on which packets can be lost, as a proxy cannot do it: also those which
// make and end connections.
type netns struct {
	t          testing.TB
	name, line string // of the network, and of its end of the line
	near, addr string // addresses of the ends
}

// startNetns makes a network, or skips the test when it may not.
func startNetns(t testing.TB) *netns {
	t.Helper()
	n := freePort(t) // a number nobody else has
	n4 := 4 * n
	ip := func(last int) string { return fmt.Sprintf("10.%d.%d.%d", 200+n4>>16, n4>>8&255, n4&255+last) }
	s := &netns{t: t, name: fmt.Sprintf("apptest-%d", n), line: fmt.Sprintf("vmt%db", n), near: ip(1), addr: ip(2)}
	end := fmt.Sprintf("vmt%da", n)
	if os.Geteuid() != 0 {
		s.skip(errors.New("the tests do not run as root"))
	}
	t.Cleanup(func() { _ = exec.Command("ip", "netns", "del", s.name).Run() }) // with the line; it fails when making it has failed
	for _, args := range []string{
		"netns add " + s.name,
		"link add " + end + " type veth peer name " + s.line + " netns " + s.name,
		"addr add " + s.near + "/30 dev " + end, "link set " + end + " up",
		"-n " + s.name + " addr add " + s.addr + "/30 dev " + s.line, "-n " + s.name + " link set " + s.line + " up",
	} {
		s.run("ip", args)
	}
	return s
}

func (s *netns) skip(err error) {
	s.t.Helper()
	s.t.Skipf("this test needs a network of its own: %s", err)
}

// run runs a tool for networks; the test is skipped when that fails.
func (s *netns) run(tool, args string) {
	s.t.Helper()
	if out, err := exec.Command(tool, strings.Fields(args)...).CombinedOutput(); err != nil {
		s.skip(fmt.Errorf("%s %s: %w: %s", tool, args, err, out))
	}
}

// inside changes a spec so that the process runs in the network.
func (s *netns) inside(p spec) spec {
	s.t.Helper()
	p.args = append([]string{"netns", "exec", s.name, binary(s.t, p.binary)}, p.args...)
	p.binary = peer(s.t, "ip")
	return p
}

// lose loses all packets that leave the network, find ends that.
func (s *netns) lose() { s.run("ip", "-n "+s.name+" route add blackhole "+s.near+"/32") }
func (s *netns) find() { s.run("ip", "-n "+s.name+" route del blackhole "+s.near+"/32") }

// bad makes the line late and lossy, good ends that.
func (s *netns) bad() {
	s.run("tc", "-n "+s.name+" qdisc add dev "+s.line+" root netem delay 50ms 20ms loss 2%")
}
func (s *netns) good() { s.run("tc", "-n "+s.name+" qdisc del dev "+s.line+" root") }
