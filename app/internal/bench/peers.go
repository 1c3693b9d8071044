package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// PeerNames lists the systems that can be measured. Clusters have two storage nodes unless the name goes on, see clusterOf.
const PeerNames = "ours-cluster, ours-single, vm-cluster, vm-single, prometheus, floor-decode, floor-lookup"

// clusterShape is what the name of a cluster says.
type clusterShape struct {
	owner  string // ours or vm
	nodes  int    // of storage
	copies int    // of each sample
}

// clusterOf reads a name such as ours-cluster, ours-cluster-4 or ours-cluster-4-rf2, which has four storage nodes and two copies.
func clusterOf(peer string) (c clusterShape, ok bool) {
	m := regexp.MustCompile(`^(ours|vm)-cluster(-([1-9]\d?)(-rf([1-9]))?)?$`).FindStringSubmatch(peer)
	if m == nil {
		return c, false
	}
	c = clusterShape{owner: m[1], nodes: 2, copies: 1}
	if m[3] != "" {
		c.nodes, _ = strconv.Atoi(m[3]) // two digits at most
	}
	if m[5] != "" {
		c.copies, _ = strconv.Atoi(m[5]) // one digit
	}
	return c, c.copies <= c.nodes
}

// errMissing tells that the binaries of a peer are not installed.
var errMissing = errors.New("the binary is not there")

// launcher starts peers.
type launcher struct {
	bin     string   // folder with our binaries
	peerBin string   // folder with the peers' binaries; empty is PATH
	self    []string // command that runs this tool, for floor servers
	dir     string   // scratch folder

	storageFlags []string // more flags for the processes that keep data
}

// launch starts a peer in a fresh folder and waits until it is ready.
func (l *launcher) launch(ctx context.Context, peer string) (*server, error) {
	dir, err := os.MkdirTemp(l.dir, "run-")
	if err != nil {
		return nil, fmt.Errorf("cannot create a folder for the data of %s: %w", peer, err)
	}
	s := &server{dir: dir, dataDirs: []string{filepath.Join(dir, "data")}}
	err = os.Mkdir(s.dataDirs[0], 0o755)
	if err == nil {
		err = l.launchInto(ctx, s, peer)
	}
	if err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

func (l *launcher) launchInto(ctx context.Context, s *server, peer string) error {
	if c, ok := clusterOf(peer); ok {
		return l.cluster(ctx, s, c)
	}
	switch peer {
	case "ours-single":
		return l.single(ctx, s, l.bin)
	case "vm-single":
		return l.single(ctx, s, l.peerBin)
	case "prometheus":
		return l.prometheus(ctx, s)
	case "floor-decode", "floor-lookup":
		return l.floor(ctx, s, strings.TrimPrefix(peer, "floor-"))
	}
	return fmt.Errorf("there is no peer %q; there are %s", peer, PeerNames)
}

// find returns the path of a binary in a folder, or in PATH if that is empty.
func find(folder, name string) (string, error) {
	if folder == "" {
		path, err := exec.LookPath(name)
		if err != nil {
			return "", fmt.Errorf("cannot find %s in PATH: %w; install it (Debian has packages named victoria-metrics and prometheus), or give its folder with -peer-bin", name, errMissing)
		}
		return path, nil
	}
	path := filepath.Join(folder, name)
	if info, err := os.Stat(path); err != nil || info.IsDir() {
		return "", fmt.Errorf("cannot find %s: %w; build it with `make build`, or give the folder with -bin or -peer-bin", path, errMissing)
	}
	return filepath.Abs(path)
}

// version returns the first line a binary says about its version.
func version(path, flag string) string {
	out, err := exec.Command(path, flag).CombinedOutput()
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	return line
}

const (
	retentionFlag = "-retentionPeriod=100y"
	uniqueFlag    = "-search.maxUniqueTimeseries=5000000"
	seriesFlag    = "-search.maxSeries=5000000"
	durationFlag  = "-search.maxQueryDuration=120s"
)

func (l *launcher) single(ctx context.Context, s *server, bin string) error {
	path, err := find(bin, "victoria-metrics")
	if err != nil {
		return err
	}
	ports, err := freePorts(1)
	if err != nil {
		return err
	}
	addr := loopback(ports[0])
	s.version = version(path, "-version")
	s.writeURL, s.readURL = "http://"+addr+"/api/v1/write", "http://"+addr
	s.flush, s.merge = []string{"http://" + addr + "/internal/force_flush"}, []string{"http://" + addr + "/internal/force_merge"}
	p := &process{name: "victoria-metrics", path: path, health: "http://" + addr + "/health", args: append([]string{
		"-storageDataPath=" + s.dataDirs[0], "-httpListenAddr=" + addr, retentionFlag, uniqueFlag, seriesFlag, durationFlag,
	}, l.storageFlags...)}
	s.storage = []*process{p}
	return s.start(ctx, p)
}

func (l *launcher) cluster(ctx context.Context, s *server, c clusterShape) error {
	bin := l.bin
	if c.owner == "vm" {
		bin = l.peerBin
	}
	var paths [3]string
	for i, name := range []string{"vmstorage", "vminsert", "vmselect"} {
		var err error
		if paths[i], err = find(bin, name); err != nil {
			return err
		}
	}
	ports, err := freePorts(3*c.nodes + 2)
	if err != nil {
		return err
	}
	s.version = version(paths[0], "-version")
	insertAddr, selectAddr := loopback(ports[3*c.nodes]), loopback(ports[3*c.nodes+1])
	insertArgs := []string{"-httpListenAddr=" + insertAddr}
	selectArgs := []string{"-httpListenAddr=" + selectAddr, seriesFlag, durationFlag, "-cacheDataPath=" + filepath.Join(s.dir, "cache")}
	if c.copies > 1 {
		copies := "-replicationFactor=" + strconv.Itoa(c.copies)
		insertArgs, selectArgs = append(insertArgs, copies), append(selectArgs, copies)
		if c.owner == "vm" {
			selectArgs = append(selectArgs, "-dedup.minScrapeInterval=1ms") // it does not join copies by itself
		}
	}
	for i := range c.nodes {
		http, forInsert, forSelect := loopback(ports[3*i]), loopback(ports[3*i+1]), loopback(ports[3*i+2])
		name := "vmstorage" + strconv.Itoa(i+1)
		p := &process{name: name, path: paths[0], health: "http://" + http + "/health", args: append([]string{
			"-storageDataPath=" + filepath.Join(s.dataDirs[0], name), "-httpListenAddr=" + http,
			"-vminsertAddr=" + forInsert, "-vmselectAddr=" + forSelect, retentionFlag, uniqueFlag,
		}, l.storageFlags...)}
		if err := s.start(ctx, p); err != nil {
			return err
		}
		s.storage = append(s.storage, p)
		s.flush = append(s.flush, "http://"+http+"/internal/force_flush")
		s.merge = append(s.merge, "http://"+http+"/internal/force_merge")
		insertArgs = append(insertArgs, "-storageNode="+forInsert)
		selectArgs = append(selectArgs, "-storageNode="+forSelect)
	}
	s.writeURL, s.readURL = "http://"+insertAddr+"/insert/0/prometheus/api/v1/write", "http://"+selectAddr+"/select/0/prometheus"
	if err := s.start(ctx, &process{name: "vmselect", path: paths[2], args: selectArgs, health: "http://" + selectAddr + "/health"}); err != nil {
		return err
	}
	return s.start(ctx, &process{name: "vminsert", path: paths[1], args: insertArgs, health: "http://" + insertAddr + "/health"})
}

func (l *launcher) prometheus(ctx context.Context, s *server) error {
	path, err := find(l.prometheusBin(), "prometheus")
	if err != nil {
		return err
	}
	ports, err := freePorts(1)
	if err != nil {
		return err
	}
	config := filepath.Join(s.dir, "prometheus.yml")
	if err := os.WriteFile(config, []byte("global: {}\n"), 0o644); err != nil {
		return fmt.Errorf("cannot write configuration of Prometheus: %w", err)
	}
	addr := loopback(ports[0])
	s.version = version(path, "--version")
	s.writeURL, s.readURL = "http://"+addr+"/api/v1/write", "http://"+addr
	p := &process{name: "prometheus", path: path, health: "http://" + addr + "/-/ready", args: []string{
		"--config.file=" + config, "--storage.tsdb.path=" + s.dataDirs[0], "--web.listen-address=" + addr,
		"--web.enable-remote-write-receiver", "--web.enable-admin-api", "--query.max-samples=1000000000", "--storage.tsdb.retention.time=100y",
	}}
	s.storage = []*process{p}
	return s.start(ctx, p)
}

// prometheusBin returns the peers' folder if Prometheus is in it, else "" for PATH.
func (l *launcher) prometheusBin() string {
	if _, err := os.Stat(filepath.Join(l.peerBin, "prometheus")); l.peerBin == "" || err != nil {
		return ""
	}
	return l.peerBin
}

func (l *launcher) floor(ctx context.Context, s *server, mode string) error {
	ports, err := freePorts(1)
	if err != nil {
		return err
	}
	addr := loopback(ports[0])
	s.writeURL = "http://" + addr + "/api/v1/write"
	args := append(l.self[1:len(l.self):len(l.self)], "floor", "-addr="+addr, "-mode="+mode)
	return s.start(ctx, &process{name: "floor", path: l.self[0], args: args, health: "http://" + addr + "/samples"})
}
