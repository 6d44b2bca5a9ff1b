//! The shop that most drills ask for: its Gateway at the pods of `edge`, its VirtualService, and the Service `web` behind it. A drill's own documents stand
//! before these.

/// Behind pods with `istio: edge` in `istio-system`; `with` servers that follow the first.
macro_rules! shop_of_istio_edge {
    () => {
        shop_of_istio_edge!(with "")
    };
    (with $servers:literal) => {
        concat!(
            r#"---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: { name: shop, namespace: istio-system }
spec:
  selector: { istio: edge }
  servers:
    - { port: { number: 80, name: http, protocol: HTTP }, hosts: ["shop.example.com"] }
"#,
            $servers,
            r#"---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: shop, namespace: default }
spec:
  hosts: ["shop.example.com"]
  gateways: ["istio-system/shop"]
  http: [ { route: [ { destination: { host: web, port: { number: 80 } } } ] } ]
---
apiVersion: v1
kind: Service
metadata: { name: web, namespace: default }
spec: { selector: { app: web }, ports: [ { name: http, port: 80, targetPort: 8080 } ] }
"#
        )
    };
}

/// Behind pods with `app: edge`; everything is in `default`.
macro_rules! shop_of_edge {
    () => {
        r#"---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: { name: shop }
spec:
  selector: { app: edge }
  servers: [ { port: { number: 80, name: http, protocol: HTTP }, hosts: ["*"] } ]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: shop }
spec:
  hosts: ["shop.example.com"]
  gateways: [shop]
  http: [ { route: [ { destination: { host: web } } ] } ]
---
apiVersion: v1
kind: Service
metadata: { name: web }
spec: { selector: { app: web }, ports: [ { port: 80 } ] }
"#
    };
}

pub(crate) use {shop_of_edge, shop_of_istio_edge};
