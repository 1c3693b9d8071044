package objects

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// Flags returns the flags among the arguments of a container, as name and value, in their order. A flag without a value is true.
func Flags(container corev1.Container) [][2]string {
	var found [][2]string
	for _, arg := range append(append([]string(nil), container.Command...), container.Args...) {
		flag, ok := strings.CutPrefix(arg, "-")
		if !ok {
			continue
		}
		name, value, given := strings.Cut(strings.TrimPrefix(flag, "-"), "=")
		if !given {
			value = "true"
		}
		found = append(found, [2]string{name, value})
	}
	return found
}

// arguments checks that the storage nodes a container is told are pods or services of the workloads.
func (c *checker) arguments(w Workload, container corev1.Container) {
	for _, flag := range Flags(container) {
		if flag[0] != "storageNode" {
			continue
		}
		for node := range strings.SplitSeq(flag[1], ",") {
			if err := c.node(w.Namespace, node); err != nil {
				c.errorf(w.ID, "-storageNode=%s: %w", node, err)
			}
		}
	}
}

// node resolves the address of a storage node as the name server of a cluster would.
func (c *checker) node(namespace, node string) error {
	node = node[strings.LastIndex(node, "/")+1:] // a group
	if name, ok := strings.CutPrefix(node, "srv+"); ok {
		return c.srv(namespace, name)
	}
	host, number, _ := strings.Cut(strings.TrimPrefix(node, "dns+"), ":")
	port, err := strconv.ParseInt(number, 10, 32)
	if err != nil && number != "" {
		return err
	}
	parts := strings.Split(host, ".")
	if strings.HasPrefix(node, "dns+") {
		parts = append([]string{""}, parts...)
	}
	if len(parts) < 2 {
		return errors.New("is not the host name of a pod")
	}
	if namespace, err = ofService(namespace, parts[2:]); err != nil {
		return err
	}
	for _, w := range c.workloads {
		if w.Kind != "StatefulSet" || w.Namespace != namespace || w.ServiceName != parts[1] {
			continue
		}
		if !hasPod(&w, parts[0]) {
			return fmt.Errorf("%s has %d pods and not this one", w.ID, w.PodCount())
		}
		if port != 0 && !w.port("", int32(port)) {
			return fmt.Errorf("%s has no port %d", w.ID, port)
		}
		return nil
	}
	return fmt.Errorf("no StatefulSet has the service %s in namespace %s", parts[1], namespace)
}

func hasPod(w *Workload, pod string) bool {
	if pod == "" {
		return true
	}
	number, ok := strings.CutPrefix(pod, w.Name+"-")
	n, err := strconv.ParseInt(number, 10, 32)
	autoscaled := w.Replicas == nil
	return ok && err == nil && n >= 0 && (autoscaled || int32(n) < w.PodCount())
}

// srv checks names such as _vmselect._tcp.service.namespace.svc.domain.
func (c *checker) srv(namespace, name string) error {
	parts := strings.Split(name, ".")
	if len(parts) < 3 || !strings.HasPrefix(parts[0], "_") || parts[1] != "_tcp" {
		return errors.New("is not like srv+_port._tcp.service")
	}
	namespace, err := ofService(namespace, parts[3:])
	if err != nil {
		return err
	}
	s, ok := c.ids[ID{"Service", namespace, parts[2]}].(*corev1.Service)
	if !ok {
		return fmt.Errorf("there is no service %s in namespace %s", parts[2], namespace)
	}
	for _, p := range s.Spec.Ports {
		if p.Name != parts[0][1:] {
			continue
		}
		if s.Spec.ClusterIP != corev1.ClusterIPNone || !s.Spec.PublishNotReadyAddresses {
			return fmt.Errorf("the service %s must be headless and publish addresses that are not ready, or a node that is down for a moment is forgotten", parts[2])
		}
		return nil
	}
	return fmt.Errorf("the service %s has no port %s", parts[2], parts[0][1:])
}

// ofService reads what may follow the name of a service: namespace, "svc", and the domain of the cluster.
func ofService(namespace string, rest []string) (string, error) {
	if len(rest) > 0 {
		namespace = rest[0]
	}
	if len(rest) > 1 && rest[1] != "svc" {
		return "", fmt.Errorf("%s stands where svc is expected", rest[1])
	}
	return namespace, nil
}

var helpLine = regexp.MustCompile(`(?m)^ +--?([A-Za-z][A-Za-z0-9._-]*)`)

// HelpFlags returns the flags which the text of -help names.
func HelpFlags(help []byte) map[string]bool {
	known := map[string]bool{}
	for _, m := range helpLine.FindAllSubmatch(help, -1) {
		known[string(m[1])] = true
	}
	return known
}

// CheckFlags tells which flags of containers their binary does not have. The binary is that of the last element of the image's name; known
// returns nil for binaries that are not ours.
func CheckFlags(all []runtime.Object, known func(binary string) map[string]bool) []error {
	var errs []error
	for _, w := range Workloads(all) {
		for _, container := range w.Containers() {
			flags := known(Binary(container.Image))
			for _, f := range Flags(container) {
				if flags != nil && !flags[f[0]] {
					errs = append(errs, fmt.Errorf("%s: container %s: %s has no flag -%s", w.ID, container.Name, Binary(container.Image), f[0]))
				}
			}
		}
	}
	return errs
}

// Binary returns the component an image is of: vmselect for registry:5000/vmcluster/vmselect:v1@sha256:00.
func Binary(image string) string {
	image, _, _ = strings.Cut(image[strings.LastIndex(image, "/")+1:], "@")
	binary, _, _ := strings.Cut(image, ":")
	return binary
}
