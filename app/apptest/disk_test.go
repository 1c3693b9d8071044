package apptest

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// needRoot skips a test which mounts file systems, unless this process may do so.
func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	cannotMount(t, errors.New("the tests do not run as root"))
}

func cannotMount(t testing.TB, err error) {
	t.Helper()
	if os.Getenv("VMCLUSTER_REQUIRE_PEERS") != "" {
		t.Fatalf("no file system can be mounted, and VMCLUSTER_REQUIRE_PEERS demands it: %s", err)
	}
	t.Skipf("this test mounts a file system and cannot: %s; run it as root", err)
}

// mountSmall mounts a file system of so many MiB in memory and returns its directory.
func mountSmall(t testing.TB, sizeMB int) string {
	t.Helper()
	needRoot(t)
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%dm", sizeMB)); err != nil {
		cannotMount(t, err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Errorf("cannot unmount %s: %s", dir, err)
		}
	})
	return dir
}

// ballast fills the file system of dir until so many bytes are left, and returns the path of what it wrote.
func ballast(t testing.TB, dir string, left int64) string {
	t.Helper()
	path := filepath.Join(dir, "ballast")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for chunk := make([]byte, 64<<10); len(chunk) > 0; {
		var st unix.Statfs_t
		if err := unix.Statfs(dir, &st); err != nil {
			t.Fatal(err)
		}
		if int64(st.Bavail)*st.Bsize <= left {
			return path
		}
		if _, err := f.Write(chunk); errors.Is(err, syscall.ENOSPC) {
			chunk = chunk[:len(chunk)/2]
		} else if err != nil {
			t.Fatal(err)
		}
	}
	return path
}

// TestFullDisk fills the disk under a node which is written to, in two ways: with the reserve that -storage.minFreeDiskSpaceBytes
// keeps for the node itself, and to the last byte, so that the log cannot be written. It answers queries all the time, survives
// kill -9 and an orderly stop on the full disk, and takes writes again by itself once there is space.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name    string
		minFree string
		left    int64
	}{
		{"reserve", "8MB", 6 << 20},
		{"to the last byte", "0", 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			dir := mountSmall(t, 48)
			s := startSingle(t, "-storageDataPath="+filepath.Join(dir, "data"), "-storage.minFreeDiskSpaceBytes="+tc.minFree)
			l := startLoad(t, s.url("/api/v1/write"))
			l.waitAcked(t, 100)
			for round := range 2 {
				file := ballast(t, dir, tc.left)
				waitMetric(t, 1, s.addr, "vm_storage_is_read_only")
				s.waitLog(`enters read-only mode`)
				liveOnFullDisk(t, s, tc.left > 0, round)
				if err := os.Remove(file); err != nil {
					t.Fatal(err)
				}
				l.waitAcked(t, 50)
				if mustMetric(t, s.addr, "vm_storage_is_read_only") != 0 {
					t.Error("the node takes writes and says that it is read-only")
				}
			}
			l.stop()
			l.check(t, s.url(""))
			get(t, s.url("/internal/force_flush")).want(t, http.StatusOK)
			get(t, s.url("/internal/force_merge")).want(t, http.StatusOK)
			l.check(t, s.url(""))
			s.stop(syscall.SIGINT)
			s.restart()
			l.check(t, s.url(""))
		})
	}
}

// liveOnFullDisk reads, flushes, and ends the node in both ways on the full disk.
func liveOnFullDisk(t *testing.T, s *single, reserve bool, round int) {
	t.Helper()
	if len(export(t, s.url(""), `load{writer="0"}`, "reduce_mem_usage", "1")) == 0 {
		t.Error("nothing can be read while the disk is full")
	}
	if reserve { // what the node needs for its own work is there
		get(t, s.url("/internal/force_flush")).want(t, http.StatusOK)
		get(t, s.url("/internal/force_merge")).want(t, http.StatusOK)
	}
	if round == 0 {
		s.kill()
	} else {
		s.stop(syscall.SIGTERM)
	}
	s.restart()
	if len(export(t, s.url(""), `load{writer="0"}`, "reduce_mem_usage", "1")) == 0 {
		t.Error("nothing can be read after a restart on the full disk")
	}
}

// mountDisk makes an ext4 file system in a file in the given directory and mounts it.
func mountDisk(t testing.TB, in string) (image, dir string) {
	t.Helper()
	needRoot(t)
	image, dir = filepath.Join(in, "disk"), t.TempDir()
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(image, 96<<20); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mkfs.ext4", "-q", "-F", "-b", "4096", image).CombinedOutput(); err != nil {
		cannotMount(t, fmt.Errorf("mkfs.ext4: %w: %s", err, out))
	}
	mount(t, image, dir)
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) }) // it is not mounted when the test has failed in between
	return image, dir
}

func mount(t testing.TB, image, dir string) {
	t.Helper()
	if out, err := exec.Command("mount", "-o", "loop", image, dir).CombinedOutput(); err != nil {
		cannotMount(t, fmt.Errorf("mount: %w: %s", err, out))
	}
}

// onePagePerRequest lets the loop device of an image take requests of one page. When the file system below is full, larger ones are done in part, which
// the loop device of Linux 6.18 reports as a success: dd to such a device, with an fsync, succeeds and its data is not there. A
// single page is written or it is not.
func onePagePerRequest(t testing.TB, image string) {
	t.Helper()
	out, err := exec.Command("losetup", "-n", "-O", "NAME", "-j", image).Output()
	if err != nil {
		cannotMount(t, fmt.Errorf("losetup: %w", err))
	}
	path := filepath.Join("/sys/block", filepath.Base(strings.TrimSpace(string(out))), "queue", "max_sectors_kb")
	if err := os.WriteFile(path, []byte("4"), 0o644); err != nil {
		cannotMount(t, err)
	}
}

// failDisk makes a mounted file system fail everything from now on. It is told to write out first what it holds: without that, ext4 may report an
// fsync as done at the very moment of the fault and lose its data, whoever calls it. Losing what was not fsynced is left to the simulated disks.
func failDisk(t testing.TB, dir string) {
	t.Helper()
	const shutdown, flushFirst = 0x8004587d, 0 // FS_IOC_SHUTDOWN, its default
	d, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if err := unix.IoctlSetPointerInt(int(d.Fd()), shutdown, flushFirst); err != nil {
		cannotMount(t, fmt.Errorf("cannot shut down the file system: %w", err))
	}
}

// TestDiskFailsUnderLoad takes the disk away from a node under load, as a loose cable does. The node must not go on as if nothing had
// happened: it ends with a status that makes an orchestrator start it again, and finds everything acknowledged on the disk.
func TestDiskFailsUnderLoad(t *testing.T) {
	t.Parallel()
	image, dir := mountDisk(t, t.TempDir())
	s := startSingle(t, "-storageDataPath="+filepath.Join(dir, "data"), "-storage.minFreeDiskSpaceBytes=1MB")
	l := startLoad(t, s.url("/api/v1/write"))
	for range rounds(4) {
		l.waitAcked(t, 100)
		failDisk(t, dir)
		waitGivenUp(t, s, dir)
		mount(t, image, dir)
		s.restart()
	}
	l.waitAcked(t, 50)
	l.stop()
	l.check(t, s.url(""))
}

// waitGivenUp waits until the node has ended as one whose disk has failed does, and takes the disk away.
func waitGivenUp(t testing.TB, s *single, dir string) {
	t.Helper()
	if status := s.wait(startTimeout); status != 1 {
		t.Errorf("the node ended with status %d; want 1", status)
	}
	if s.stderr.find(regexp.MustCompile(`^shutting down with status 1, to be started again: `)) == nil {
		t.Error("the node does not say why it ends")
	}
	if err := unix.Unmount(dir, 0); err != nil {
		t.Fatalf("cannot unmount: %s", err)
	}
}

// TestDiskErrorsUnderLoad has a disk below a node under load which begins to fail each write to a place that was never written before, while others
// succeed: the thin-provisioned volume whose pool is full. The file system finds that out by a failed fsync or in its journal.
func TestDiskErrorsUnderLoad(t *testing.T) {
	t.Parallel()
	small := mountSmall(t, 48)
	image, dir := mountDisk(t, small)
	onePagePerRequest(t, image)
	s := startSingle(t, "-storageDataPath="+filepath.Join(dir, "data"), "-storage.minFreeDiskSpaceBytes=1MB")
	l := startLoad(t, s.url("/api/v1/write"))
	for range rounds(3) {
		l.waitAcked(t, 100)
		file := ballast(t, small, 0)
		waitGivenUp(t, s, dir)
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command("e2fsck", "-f", "-y", image).CombinedOutput(); err != nil && exitStatus(err) > 1 { // 1: errors were corrected
			t.Fatalf("e2fsck: %s: %s", err, out)
		}
		mount(t, image, dir)
		onePagePerRequest(t, image)
		s.restart()
	}
	l.waitAcked(t, 50)
	l.stop()
	l.check(t, s.url(""))
}

func exitStatus(err error) int {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode()
	}
	return -1
}
