"""What a rendered object says about its pods."""


def templates(objects):
    """(object, pod metadata, pod spec) for everything that makes pods."""
    for o in objects:
        if o["kind"] == "Pod":
            yield o, o["metadata"], o["spec"]
        elif o["kind"] in ("Deployment", "Job"):
            yield o, o["spec"]["template"].get("metadata", {}), o["spec"]["template"]["spec"]


def containers(spec):
    return spec.get("initContainers", []) + spec["containers"]


def restricted(spec, container, user_by_platform):
    """The rules of the restricted Pod Security Standard that this container breaks."""
    pod, own = spec.get("securityContext") or {}, container.get("securityContext") or {}
    either = lambda key: own.get(key, pod.get(key))
    rules = {
        "runAsNonRoot": either("runAsNonRoot") is True,
        "runAsUser": user_by_platform or (either("runAsUser") or 0) > 0,
        "seccompProfile": (either("seccompProfile") or {}).get("type") == "RuntimeDefault",
        "allowPrivilegeEscalation": own.get("allowPrivilegeEscalation") is False,
        "capabilities": own.get("capabilities") == {"drop": ["ALL"]},
        "host namespaces": not any(spec.get(k) for k in ("hostNetwork", "hostPID", "hostIPC")),
        "volumes": all(not v.get("hostPath") for v in spec.get("volumes", [])),
    }
    return [rule for rule, holds in rules.items() if not holds]
