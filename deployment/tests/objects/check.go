package objects

import (
	"fmt"
	"slices"
	"strings"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
)

// ID names an object within a cluster.
type ID struct {
	Kind, Namespace, Name string
}

func (id ID) String() string { return id.Kind + " " + id.Namespace + "/" + id.Name }

// IDOf returns the name of an object.
func IDOf(object runtime.Object) ID {
	id := ID{Kind: object.GetObjectKind().GroupVersionKind().Kind}
	if m, err := meta.Accessor(object); err == nil {
		id.Namespace, id.Name = m.GetNamespace(), m.GetName()
	}
	return id
}

// clusterScoped are the kinds without a namespace among those that are used here.
var clusterScoped = []string{"Namespace", "ClusterRole", "ClusterRoleBinding", "PriorityClass", "StorageClass", "PersistentVolume"}

// Check tells what is wrong between objects that are created together, which an API server accepts, and which fails only when pods start
// or requests arrive: names that refer to nothing, selectors which match nothing, ports nobody listens at. Objects which exist already are
// told by outside as "Kind/name", for any namespace.
func Check(all []runtime.Object, outside ...string) []error {
	c := &checker{all: all, workloads: Workloads(all), ids: map[ID]runtime.Object{}, outside: outside}
	for _, object := range all {
		c.identity(object)
	}
	for _, w := range c.workloads {
		c.workload(w)
	}
	for _, object := range all {
		c.relations(object)
	}
	return c.errs
}

type checker struct {
	all       []runtime.Object
	workloads []Workload
	ids       map[ID]runtime.Object
	outside   []string
	errs      []error
}

func (c *checker) errorf(id ID, format string, args ...any) {
	c.errs = append(c.errs, fmt.Errorf("%s: %w", id, fmt.Errorf(format, args...)))
}

func (c *checker) exists(id ID) bool {
	return c.ids[id] != nil || slices.Contains(c.outside, id.Kind+"/"+id.Name)
}

// refers complains about a reference to an object which does not exist.
func (c *checker) refers(from ID, what, kind, name string) {
	if target := (ID{kind, from.Namespace, name}); !c.exists(target) {
		c.errorf(from, "%s refers to %s, which does not exist", what, target)
	}
}

// identity checks the name and the labels of an object.
func (c *checker) identity(object runtime.Object) {
	id := IDOf(object)
	m, err := meta.Accessor(object)
	if err != nil {
		c.errorf(id, "has no metadata: %w", err)
		return
	}
	if c.ids[id] != nil {
		c.errorf(id, "exists twice")
	}
	c.ids[id] = object
	valid := validation.IsDNS1123Subdomain
	switch id.Kind {
	case "StatefulSet":
		valid = validation.IsDNS1123Label // it is a part of the host names of pods
	case "Service":
		valid = validation.IsDNS1035Label
	}
	for _, fault := range valid(id.Name) {
		c.errorf(id, "name: %s", fault)
	}
	if (id.Namespace == "") != slices.Contains(clusterScoped, id.Kind) {
		c.errorf(id, "has namespace %q", id.Namespace)
	}
	c.labels(id, m.GetLabels())
}

func (c *checker) labels(id ID, set map[string]string) {
	for key, value := range set {
		for _, fault := range append(validation.IsQualifiedName(key), validation.IsValidLabelValue(value)...) {
			c.errorf(id, "label %s=%q: %s", key, value, fault)
		}
	}
}

// relations checks what an object says about pods and services.
func (c *checker) relations(object runtime.Object) {
	id := IDOf(object)
	switch o := object.(type) {
	case *corev1.Service:
		c.service(id, o)
	case *policyv1.PodDisruptionBudget:
		c.budget(id, o)
	case *networkingv1.NetworkPolicy:
		if len(c.selected(id, &o.Spec.PodSelector)) == 0 {
			c.errorf(id, "selects no pods")
		}
	case *networkingv1.Ingress:
		c.ingress(id, o)
	case *autoscalingv2.HorizontalPodAutoscaler:
		c.autoscaler(id, o)
	case *ServiceMonitor:
		c.monitor(id, o)
	case *HTTPRoute:
		c.route(id, o)
	case *VerticalPodAutoscaler:
		if o.Spec.TargetRef != nil {
			c.refers(id, "targetRef", o.Spec.TargetRef.Kind, o.Spec.TargetRef.Name)
		}
	}
}

// selected returns the workloads whose pods a selector matches.
func (c *checker) selected(id ID, selector *metav1.LabelSelector) []Workload {
	s, err := metav1.LabelSelectorAsSelector(selector)
	if err != nil {
		c.errorf(id, "selector: %w", err)
		return nil
	}
	var found []Workload
	for _, w := range c.workloads {
		if w.Namespace == id.Namespace && s.Matches(labels.Set(w.Pod.Labels)) {
			found = append(found, w)
		}
	}
	return found
}

func (c *checker) service(id ID, s *corev1.Service) {
	if len(s.Spec.Selector) == 0 {
		return // its endpoints are made by somebody else
	}
	found := c.selected(id, &metav1.LabelSelector{MatchLabels: s.Spec.Selector})
	if len(found) == 0 {
		c.errorf(id, "selects no pods by %v", s.Spec.Selector)
	}
	seen := map[string]bool{}
	for _, p := range s.Spec.Ports {
		for _, key := range []string{"name " + p.Name, fmt.Sprintf("port %d/%s", p.Port, p.Protocol)} {
			if seen[key] {
				c.errorf(id, "%s occurs twice", key)
			}
			seen[key] = true
		}
		if p.Name == "" && len(s.Spec.Ports) > 1 {
			c.errorf(id, "port %d of several needs a name", p.Port)
		}
		target := p.TargetPort
		if target == (intstr.IntOrString{}) {
			target = intstr.FromInt32(p.Port)
		}
		for _, w := range found {
			if !w.port(target.StrVal, target.IntVal) {
				c.errorf(id, "port %d: no container of %s has the port %s", p.Port, w.ID, target.String())
			}
		}
	}
}

func (c *checker) budget(id ID, b *policyv1.PodDisruptionBudget) {
	found := c.selected(id, b.Spec.Selector)
	if len(found) != 1 {
		c.errorf(id, "selects pods of %d workloads, want 1", len(found))
		return
	}
	n, pods := b.Spec.MinAvailable, int(found[0].PodCount())
	if n == nil || found[0].Replicas == nil {
		return
	}
	if least, err := intstr.GetScaledValueFromIntOrPercent(n, pods, true); err != nil || least >= pods {
		c.errorf(id, "minAvailable %s of %d pods lets none be moved, so nodes cannot be drained", n.String(), pods)
	}
}

func (c *checker) autoscaler(id ID, h *autoscalingv2.HorizontalPodAutoscaler) {
	ref := h.Spec.ScaleTargetRef
	c.refers(id, "scaleTargetRef", ref.Kind, ref.Name)
	if h.Spec.MinReplicas != nil && *h.Spec.MinReplicas > h.Spec.MaxReplicas {
		c.errorf(id, "minReplicas %d is more than maxReplicas %d", *h.Spec.MinReplicas, h.Spec.MaxReplicas)
	}
	for _, w := range c.workloads {
		if w.ID == (ID{ref.Kind, id.Namespace, ref.Name}) && w.Replicas != nil {
			c.errorf(id, "%s sets replicas, too: each change of it would undo what the autoscaler did", w.ID)
		}
	}
}

// servicePort complains about a port which a service does not have.
func (c *checker) servicePort(from ID, service, name string, number int32) {
	c.refers(from, "backend", "Service", service)
	s, ok := c.ids[ID{"Service", from.Namespace, service}].(*corev1.Service)
	if ok && !slices.ContainsFunc(s.Spec.Ports, func(p corev1.ServicePort) bool {
		return name != "" && p.Name == name || name == "" && p.Port == number
	}) {
		c.errorf(from, "Service %s has no port %s%s", service, name, strings.TrimPrefix(fmt.Sprint(number), "0"))
	}
}

func (c *checker) ingress(id ID, i *networkingv1.Ingress) {
	backends := []*networkingv1.IngressBackend{i.Spec.DefaultBackend}
	for _, rule := range i.Spec.Rules {
		if rule.HTTP == nil {
			c.errorf(id, "host %q has no paths", rule.Host)
			continue
		}
		for _, p := range rule.HTTP.Paths {
			backends = append(backends, &p.Backend)
		}
	}
	for _, b := range backends {
		if b != nil && b.Service != nil {
			c.servicePort(id, b.Service.Name, b.Service.Port.Name, b.Service.Port.Number)
		}
	}
}

func (c *checker) route(id ID, r *HTTPRoute) {
	for _, rule := range r.Spec.Rules {
		for _, b := range rule.BackendRefs {
			c.servicePort(id, b.Name, "", b.Port)
		}
	}
	if len(r.Spec.ParentRefs) == 0 {
		c.errorf(id, "has no parentRefs")
	}
}

// monitor checks that a ServiceMonitor scrapes exactly one service, since each further one would be the same pods a second time.
func (c *checker) monitor(id ID, m *ServiceMonitor) {
	s, err := metav1.LabelSelectorAsSelector(&m.Spec.Selector)
	if err != nil {
		c.errorf(id, "selector: %w", err)
		return
	}
	namespaces := m.Spec.NamespaceSelector.MatchNames
	if len(namespaces) == 0 {
		namespaces = []string{id.Namespace}
	}
	var found []*corev1.Service
	for _, object := range c.all {
		if service, ok := object.(*corev1.Service); ok && slices.Contains(namespaces, service.Namespace) && s.Matches(labels.Set(service.Labels)) {
			found = append(found, service)
		}
	}
	if len(found) != 1 {
		c.errorf(id, "selects %d services, want 1", len(found))
		return
	}
	for _, e := range m.Spec.Endpoints {
		if e.TargetPort == nil && !slices.ContainsFunc(found[0].Spec.Ports, func(p corev1.ServicePort) bool { return p.Name == e.Port }) {
			c.errorf(id, "Service %s has no port %q", found[0].Name, e.Port)
		}
	}
}
