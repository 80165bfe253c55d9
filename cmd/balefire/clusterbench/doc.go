// Package clusterbench measures whole clusters: processes on loopback with a real Kafka and a real S3 server, asked over UDP and HTTP
// as clients would. It prints Markdown, and judges nothing: no figure fails a test, only what does not work at all.
//
// Its tests need the build tags clusterbench, kafka and s3; `make bench-cluster` runs them. The load comes from the same processors as the
// answers, so that figures under load are of both.
package clusterbench
