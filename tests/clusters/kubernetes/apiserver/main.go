// Kubernetes' own API server with etcd in the same process, for tests: main FOLDER ADDRESS.
//
// It serves https://ADDRESS:443 and keeps everything in FOLDER, where FOLDER/tokens.csv says who may do what. Nothing
// is written safely to the disk: a test throws it away.
package main

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"log"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"k8s.io/component-base/cli"
	"k8s.io/kubernetes/cmd/kube-apiserver/app"
)

// Sockets in the working folder: etcd takes host:port only, and makes a file of that name.
const clients, peers = "unix://client:0", "unix://peer:0"

func main() {
	folder, address := os.Args[1], os.Args[2]
	if err := os.Chdir(folder); err != nil {
		log.Fatal(err)
	}
	startEtcd(filepath.Join(folder, "etcd"))
	key := filepath.Join(folder, "service-accounts.key")
	writeKey(key)
	command := app.NewAPIServerCommand()
	command.SetArgs([]string{
		"--etcd-servers=" + clients,
		"--bind-address=" + address,
		"--advertise-address=" + address,
		"--secure-port=443",
		"--cert-dir=" + filepath.Join(folder, "certificates"), // it signs its own
		"--token-auth-file=" + filepath.Join(folder, "tokens.csv"),
		"--authorization-mode=RBAC",
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-signing-key-file=" + key,
		"--service-account-key-file=" + key,
		"--service-cluster-ip-range=10.99.0.0/24",
		"--endpoint-reconciler-type=none",
		"--enable-priority-and-fairness=false",
	})
	os.Exit(cli.Run(command))
}

func startEtcd(folder string) {
	client, _ := url.Parse(clients)
	peer, _ := url.Parse(peers)
	config := embed.NewConfig()
	config.Dir = folder
	config.LogLevel = "error"
	config.UnsafeNoFsync = true
	config.ListenClientUrls, config.AdvertiseClientUrls = []url.URL{*client}, []url.URL{*client}
	config.ListenPeerUrls, config.AdvertisePeerUrls = []url.URL{*peer}, []url.URL{*peer}
	config.InitialCluster = config.InitialClusterFromName(config.Name)
	server, err := embed.StartEtcd(config)
	if err != nil {
		log.Fatal(err)
	}
	select {
	case <-server.Server.ReadyNotify():
	case <-time.After(5 * time.Minute):
		log.Fatal("etcd is not ready after 5 minutes")
	}
}

// writeKey makes the key that signs the tokens of service accounts.
func writeKey(path string) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		log.Fatal(err)
	}
	block := &pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}
	if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
		log.Fatal(err)
	}
}
