"""A node of the DHT by libtorrent, driven by one JSON object a line on its input; each answer is one line. Ends with its input."""

import json
import sys
import time

import libtorrent as lt

host, port, bootstrap = sys.argv[1], sys.argv[2], sys.argv[3:]
session = lt.session(
    {
        "listen_interfaces": f"{host}:{port}",
        "enable_dht": False,
        "enable_lsd": False,
        "enable_upnp": False,
        "enable_natpmp": False,
        "dht_bootstrap_nodes": ",".join(bootstrap),
        "dht_restrict_routing_ips": False,
        "dht_restrict_search_ips": False,
        "dht_enforce_node_id": False,
        "dht_prefer_verified_node_ids": False,
        "dht_ignore_dark_internet": False,
        "dht_upload_rate_limit": 1_000_000,
        "alert_mask": lt.alert.category_t.dht_notification
        | lt.alert.category_t.status_notification
        | lt.alert.category_t.error_notification,
    }
)
session.apply_settings({"enable_dht": True})
for place in bootstrap:
    at, _, number = place.rpartition(":")
    session.add_dht_node((at, int(number)))


def wait(kind, seconds, accept=lambda alert: True):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        session.wait_for_alert(50)
        for alert in session.pop_alerts():
            if isinstance(alert, kind) and accept(alert):
                return alert
    return None


def answer(asked):
    kind = asked["ask"]
    if kind == "put":
        # The private key is the expanded one: 64 bytes.
        session.dht_put_mutable_item(
            bytes.fromhex(asked["private"]),
            bytes.fromhex(asked["public"]),
            bytes.fromhex(asked["value"]),
            bytes.fromhex(asked["salt"]),
        )
        # It waits up to 15 s for each node that is gone.
        alert = wait(lt.dht_put_alert, 45)
        return alert.num_success if alert is not None else 0
    if kind == "get":
        session.dht_get_mutable_item(bytes.fromhex(asked["public"]), bytes.fromhex(asked["salt"]))
        # It tells each that it finds; the authoritative one comes last.
        alert = wait(lt.dht_mutable_item_alert, 45, lambda one: one.authoritative)
        if alert is None or not alert.item:
            return None
        item = alert.item
        value = item["value"] if isinstance(item, dict) and "value" in item else item
        return {"value": value.hex() if isinstance(value, bytes) else str(value), "seq": alert.seq}
    raise ValueError(kind)


if wait(lt.dht_bootstrap_alert, 30) is None:
    sys.exit("libtorrent does not get into the DHT")
print(json.dumps(session.listen_port()), flush=True)
for line in sys.stdin:
    try:
        result = {"ok": answer(json.loads(line))}
    except Exception as error:  # what went wrong is the test's to judge
        result = {"error": repr(error)}
    print(json.dumps(result), flush=True)
