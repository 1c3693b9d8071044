package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"
)

// healthTimeout bounds every start and every stop.
const healthTimeout = 2 * time.Minute

// process is a server process that can be started again with the same arguments.
type process struct {
	name    string
	path    string
	args    []string
	logPath string
	health  string // URL that answers 2xx when the process is ready
	cmd     *exec.Cmd
	done    chan struct{} // closed when the process has ended
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// start starts the process, for the first time or again. The log is continued.
func (p *process) start() error {
	log, err := os.OpenFile(p.logPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("cannot open log of %s: %w", p.name, err)
	}
	defer log.Close()
	p.cmd = exec.Command(p.path, p.args...)
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.cmd.SysProcAttr = childAttr()
	if err := p.cmd.Start(); err != nil {
		return fmt.Errorf("cannot start %s: %w", p.name, err)
	}
	done := make(chan struct{})
	p.done = done
	go func(cmd *exec.Cmd) {
		_ = cmd.Wait() // the log tells more than the status
		close(done)
	}(p.cmd)
	return nil
}

// waitHealthy waits until the process answers.
func (p *process) waitHealthy(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	for {
		_, err := httpGet(ctx, p.health)
		if err == nil {
			return nil
		}
		select {
		case <-p.done:
			return fmt.Errorf("%s ended at its start; its log ends with: %s", p.name, p.logTail())
		case <-ctx.Done():
			return fmt.Errorf("%s does not answer at %s: %w; its log ends with: %s", p.name, p.health, err, p.logTail())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// logTail returns the end of the log.
func (p *process) logTail() []byte {
	const most = 1000
	data, err := os.ReadFile(p.logPath)
	if err != nil {
		return []byte(err.Error())
	}
	return bytes.TrimSpace(data[max(0, len(data)-most):])
}

// kill ends the process at once, as the kernel would when memory runs out.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // it may have ended already
	<-p.done
}

// stop asks the process to end and kills it if it does not.
func (p *process) stop() {
	_ = p.cmd.Process.Signal(os.Interrupt) // it may have ended already
	select {
	case <-p.done:
	case <-time.After(healthTimeout):
		p.kill()
	}
}

// freePorts returns ports nobody listens at. They lie below the range from which the system takes the
// ports of outgoing connections, so that they are still free when a killed process is started again.
func freePorts(n int) ([]int, error) {
	const first, count = 30000, 2700
	var ports []int
	for _, i := range rand.Perm(count) {
		ln, err := net.Listen("tcp", loopback(first+i))
		if err != nil {
			continue
		}
		_ = ln.Close() // it never served
		if ports = append(ports, first+i); len(ports) == n {
			return ports, nil
		}
	}
	return nil, fmt.Errorf("cannot find %d free ports from %d to %d on 127.0.0.1", n, first, first+count-1)
}

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// server is a system under test: one process or a cluster of them.
type server struct {
	dir       string // of everything it writes, removed by close
	processes []*process
	storage   []*process // those of them that keep data
	flush     []string   // URLs
	merge     []string
	writeURL  string // of remote write
	readURL   string // before /api/v1; empty if it cannot be read
	dataDirs  []string
	version   string
}

// start adds a process, starts it and waits until it is ready.
func (s *server) start(ctx context.Context, p *process) error {
	p.logPath = filepath.Join(s.dir, p.name+".log")
	if err := p.start(); err != nil {
		return err
	}
	s.processes = append(s.processes, p)
	return p.waitHealthy(ctx)
}

// close stops the processes, the last started first, and removes their files.
func (s *server) close() error {
	s.stopAll()
	if err := os.RemoveAll(s.dir); err != nil {
		return fmt.Errorf("cannot remove the data of a measured server: %w", err)
	}
	return nil
}

func (s *server) pids() []int {
	var pids []int
	for _, p := range s.processes {
		pids = append(pids, p.pid())
	}
	return pids
}

// call sends requests without parameters and waits for the answers.
func (s *server) call(ctx context.Context, method string, urls []string) error {
	for _, u := range urls {
		if _, err := httpDo(ctx, method, u); err != nil {
			return fmt.Errorf("cannot call %s: %w", u, err)
		}
	}
	return nil
}

// died returns an error if a process has ended.
func (s *server) died() error {
	for _, p := range s.processes {
		select {
		case <-p.done:
			return fmt.Errorf("%s ended unexpectedly; its log ends with: %s", p.name, p.logTail())
		default:
		}
	}
	return nil
}

// waitIdle waits until the processes use little CPU for two pauses in a row, at most 180 pauses.
func (s *server) waitIdle(ctx context.Context, every time.Duration) error {
	last, err := ReadUsage(s.pids())
	if err != nil {
		return errors.Join(s.died(), err)
	}
	for calm, i := 0, 0; calm < 2 && i < 180; i++ {
		if err := pause(ctx, every); err != nil {
			return err
		}
		now, err := ReadUsage(s.pids())
		if err != nil {
			return errors.Join(s.died(), err)
		}
		if calm++; now.CPUSeconds-last.CPUSeconds >= every.Seconds()/10 {
			calm = 0
		}
		last = now
	}
	return nil
}
