# prunelab on a CPU: docker build -t prunelab . && docker run --rm -v "$PWD/outputs:/study/outputs" prunelab -m experiment=demo
# PyTorch from the usual registry brings CUDA, about 5 GB, so that `docker run --gpus all` works too; smaller is one of
# PyTorch's indexes for CPUs, for torch and torchvision alike: --build-arg PIP_INDEX_URL=... --build-arg PIP_EXTRA_INDEX_URL=...
FROM python:3.11-slim
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
WORKDIR /prunelab
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY src src
COPY conf conf
RUN pip install --no-cache-dir --constraint constraints.txt '.[export,search]'
WORKDIR /study
ENTRYPOINT ["python", "-m", "train"]
CMD ["--help"]
