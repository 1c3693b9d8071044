package objects

import (
	"encoding/json"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes/scheme"
)

// The kinds below are not Kubernetes' own. Only the fields that are used here are known, so anything else is refused as mistyped.

// ServiceMonitor is an object of the Prometheus operator.
type ServiceMonitor struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              struct {
		JobLabel          string               `json:"jobLabel,omitempty"`
		Selector          metav1.LabelSelector `json:"selector"`
		NamespaceSelector struct {
			MatchNames []string `json:"matchNames,omitempty"`
		} `json:"namespaceSelector"`
		Endpoints []MonitorEndpoint `json:"endpoints"`
	} `json:"spec"`
}

// MonitorEndpoint is where a ServiceMonitor scrapes.
type MonitorEndpoint struct {
	Port              string              `json:"port,omitempty"`
	TargetPort        *intstr.IntOrString `json:"targetPort,omitempty"`
	Path              string              `json:"path,omitempty"`
	Scheme            string              `json:"scheme,omitempty"`
	Interval          string              `json:"interval,omitempty"`
	ScrapeTimeout     string              `json:"scrapeTimeout,omitempty"`
	BasicAuth         *MonitorAuth        `json:"basicAuth,omitempty"`
	TLSConfig         *MonitorTLS         `json:"tlsConfig,omitempty"`
	Relabelings       []MonitorRelabel    `json:"relabelings,omitempty"`
	MetricRelabelings []MonitorRelabel    `json:"metricRelabelings,omitempty"`
}

// MonitorAuth is the basic authentication of a scrape.
type MonitorAuth struct {
	Username *corev1.SecretKeySelector `json:"username,omitempty"`
	Password *corev1.SecretKeySelector `json:"password,omitempty"`
}

// MonitorTLS is the TLS of a scrape.
type MonitorTLS struct {
	InsecureSkipVerify bool   `json:"insecureSkipVerify,omitempty"`
	ServerName         string `json:"serverName,omitempty"`
	CAFile             string `json:"caFile,omitempty"`
}

// MonitorRelabel is a rule of relabelling.
type MonitorRelabel struct {
	SourceLabels []string `json:"sourceLabels,omitempty"`
	Separator    *string  `json:"separator,omitempty"`
	TargetLabel  string   `json:"targetLabel,omitempty"`
	Regex        string   `json:"regex,omitempty"`
	Modulus      uint64   `json:"modulus,omitempty"`
	Replacement  *string  `json:"replacement,omitempty"`
	Action       string   `json:"action,omitempty"`
}

// HTTPRoute is an object of the Gateway API.
type HTTPRoute struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              struct {
		ParentRefs []struct {
			Group       string `json:"group,omitempty"`
			Kind        string `json:"kind,omitempty"`
			Namespace   string `json:"namespace,omitempty"`
			Name        string `json:"name"`
			SectionName string `json:"sectionName,omitempty"`
			Port        int32  `json:"port,omitempty"`
		} `json:"parentRefs"`
		Hostnames []string    `json:"hostnames,omitempty"`
		Rules     []RouteRule `json:"rules"`
	} `json:"spec"`
}

// RouteRule is a rule of an HTTPRoute. Filters are as the Gateway API has them.
type RouteRule struct {
	Matches []struct {
		Path *struct {
			Type  string `json:"type"`
			Value string `json:"value"`
		} `json:"path,omitempty"`
		Headers []struct {
			Type  string `json:"type,omitempty"`
			Name  string `json:"name"`
			Value string `json:"value"`
		} `json:"headers,omitempty"`
		Method string `json:"method,omitempty"`
	} `json:"matches,omitempty"`
	Filters  []map[string]any `json:"filters,omitempty"`
	Timeouts *struct {
		Request        string `json:"request,omitempty"`
		BackendRequest string `json:"backendRequest,omitempty"`
	} `json:"timeouts,omitempty"`
	BackendRefs []struct {
		Name   string `json:"name"`
		Port   int32  `json:"port"`
		Weight *int32 `json:"weight,omitempty"`
	} `json:"backendRefs"`
}

// VerticalPodAutoscaler is an object of the autoscaler of that name.
type VerticalPodAutoscaler struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              struct {
		TargetRef    *autoscalingv1.CrossVersionObjectReference `json:"targetRef"`
		Recommenders []struct {
			Name string `json:"name"`
		} `json:"recommenders,omitempty"`
		UpdatePolicy *struct {
			UpdateMode  string `json:"updateMode,omitempty"`
			MinReplicas *int32 `json:"minReplicas,omitempty"`
		} `json:"updatePolicy,omitempty"`
		ResourcePolicy *struct {
			ContainerPolicies []struct {
				ContainerName       string                `json:"containerName,omitempty"`
				Mode                string                `json:"mode,omitempty"`
				MinAllowed          corev1.ResourceList   `json:"minAllowed,omitempty"`
				MaxAllowed          corev1.ResourceList   `json:"maxAllowed,omitempty"`
				ControlledResources []corev1.ResourceName `json:"controlledResources,omitempty"`
				ControlledValues    string                `json:"controlledValues,omitempty"`
			} `json:"containerPolicies,omitempty"`
		} `json:"resourcePolicy,omitempty"`
	} `json:"spec"`
}

// DeepCopyObject makes the kind one of runtime.Object.
func (m *ServiceMonitor) DeepCopyObject() runtime.Object { return copied(m, &ServiceMonitor{}) }

// DeepCopyObject makes the kind one of runtime.Object.
func (r *HTTPRoute) DeepCopyObject() runtime.Object { return copied(r, &HTTPRoute{}) }

// DeepCopyObject makes the kind one of runtime.Object.
func (v *VerticalPodAutoscaler) DeepCopyObject() runtime.Object {
	return copied(v, &VerticalPodAutoscaler{})
}

// copied copies by way of JSON, which the kinds above are made of.
func copied(from, to runtime.Object) runtime.Object {
	text, err := json.Marshal(from)
	if err == nil {
		err = json.Unmarshal(text, to)
	}
	if err != nil {
		panic(err)
	}
	return to
}

// kinds returns the kinds that Decode knows.
func kinds() *runtime.Scheme {
	s := runtime.NewScheme()
	if err := scheme.AddToScheme(s); err != nil {
		panic(err) // two of Kubernetes' own kinds have one name
	}
	s.AddKnownTypeWithName(schema.GroupVersionKind{Group: "monitoring.coreos.com", Version: "v1", Kind: "ServiceMonitor"}, &ServiceMonitor{})
	s.AddKnownTypeWithName(schema.GroupVersionKind{Group: "gateway.networking.k8s.io", Version: "v1", Kind: "HTTPRoute"}, &HTTPRoute{})
	s.AddKnownTypeWithName(schema.GroupVersionKind{Group: "autoscaling.k8s.io", Version: "v1", Kind: "VerticalPodAutoscaler"}, &VerticalPodAutoscaler{})
	return s
}
